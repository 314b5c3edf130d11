"""Formats of adapters."""
