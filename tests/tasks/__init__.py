"""Stages: keys, manifests, the border between the sides, worker processes."""
