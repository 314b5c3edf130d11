"""Tests of the base model's loading."""
