"""Benchmarks: what the defaults rest on, measured anew by `fedcore benchmark …`."""
