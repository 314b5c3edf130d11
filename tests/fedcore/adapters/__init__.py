"""Tests of adapters as values."""
