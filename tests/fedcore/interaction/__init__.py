"""Tests of the interaction between clusters."""
