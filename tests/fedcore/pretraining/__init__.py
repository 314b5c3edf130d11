"""Tests of the base model's making."""
