"""LoRA adapters as values: what they are, their arithmetic, truncation, fitting to a client's rank, files and checks."""

from fedcore.adapters.files import DTYPES, MAX_NORM, Factor, Shapes, Transport, check, completed, from_bytes, to_bytes
from fedcore.adapters.fitting import Beginning, Split, begun_with, fitted, fresh_rows, split
from fedcore.adapters.layer import Adapter, Layer, concatenated, inner, layer_names, relative_error, single, summed, with_scale
from fedcore.adapters.shown import shown
from fedcore.adapters.truncation import Truncated, cut, truncated

__all__ = [
    "DTYPES",
    "MAX_NORM",
    "Adapter",
    "Beginning",
    "Factor",
    "Layer",
    "Shapes",
    "Split",
    "Transport",
    "Truncated",
    "begun_with",
    "check",
    "completed",
    "concatenated",
    "cut",
    "fitted",
    "fresh_rows",
    "from_bytes",
    "inner",
    "layer_names",
    "relative_error",
    "shown",
    "single",
    "split",
    "summed",
    "to_bytes",
    "truncated",
    "with_scale",
]
