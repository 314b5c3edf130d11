"""Reads the emoji pack: pictures of one style with their names."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from data.emoji.styles import STYLES

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Drawing:
    """One row of the pack."""

    style: str
    subject: str
    names: tuple[str, ...]
    category: str
    unseen: bool
    png: bytes


def drawings(style: str) -> list[Drawing]:
    """All pictures of one style, in the order of their subjects."""
    rows = pq.read_table(FOLDER / f"{style}.parquet").to_pylist()
    return [Drawing(style, r["subject"], (r["prompt"], *r["synonyms"]), r["category"], r["unseen"], r["image"]) for r in rows]


def base_drawings() -> list[Drawing]:
    """All pictures of the styles that the base model is trained on (unseen subjects included: the caller leaves them out)."""
    return [d for style in STYLES if style.role == "base" for d in drawings(style.name)]


def pixels(pngs: list[bytes]) -> Tensor:
    """Decoded pictures, uint8, (n, 3, h, w); all must have one size."""
    return torch.from_numpy(np.stack([np.asarray(Image.open(io.BytesIO(p)).convert("RGB")) for p in pngs])).permute(0, 3, 1, 2).contiguous()
