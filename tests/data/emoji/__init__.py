"""Tests of the emoji pack and the demo's clients."""
