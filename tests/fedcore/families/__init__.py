"""Families of base models."""
