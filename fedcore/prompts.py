"""Prompts become numbers here, on the client's side, and only numbers travel: token encodings for pictures, one vector for a wish."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from fedcore.base import BaseModel, Conditioning, Encoded
from fedcore.errors import InputError


def encode(base: BaseModel, texts: Sequence[str]) -> Encoded:
    """Encode texts as the base's family does; those longer than its context are cut, as in every Stable Diffusion.

    Raises:
        InputError: one holds what is no character.
    """
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise InputError("a text holds bytes that are no characters; write it in UTF-8") from None
    return base.family.encode(base, texts)


@lru_cache(maxsize=1)
def nothing(base: BaseModel) -> Conditioning:
    """What stands for no prompt (one row): captions that are dropped, and the second pass of guidance."""
    return base.family.nothing(base)


LOOKS = (
    "watercolour painting", "oil painting", "pencil sketch", "pen and ink line drawing", "black and white photograph",
    "colour photograph", "flat vector illustration", "bold outlines and flat colours", "thin outlines and pastel colours",
    "black silhouette", "soft gradients", "glossy 3d render", "pixel art", "cartoon", "comic book", "anime", "minimalist icon",
    "realistic, detailed", "muted colours", "vivid saturated colours", "dark and moody", "light and airy", "vintage poster",
    "stained glass", "paper cut out", "charcoal drawing", "graffiti", "mosaic", "child's drawing", "engraving", "pop art",
    "impressionist painting",
)  # fmt: skip
"""Public phrases that span how pictures can look; they give requirement vectors their origin and their scale."""

THINGS = ("a cat", "a house", "a car", "a flower")
"""Neutral prompts that go with `LOOKS`."""

REQUIREMENT_DIMS = 16


def requirement_dims(width: int) -> int:
    """How many numbers a requirement vector has where the text encoder's hidden states have `width`."""
    return min(REQUIREMENT_DIMS, len(LOOKS), width)


def _wish(base: BaseModel, statement: str, prompts: Sequence[str]) -> Tensor:
    """What a statement says, alone and beside prompts: `m(s) + mean_p [m(p + ", " + s) − m(p)]`, m the meaning, (width,) float64."""
    n = len(prompts)
    vectors = encode(base, [*prompts, *(f"{prompt}, {statement}" for prompt in prompts), statement]).meanings.double()
    return vectors[-1] + (vectors[n : 2 * n] - vectors[:n]).mean(dim=0)


@lru_cache(maxsize=1)
def _looks(base: BaseModel) -> tuple[Tensor, Tensor]:
    """Origin (width,) and axes (dims, width) of requirement vectors, the axes scaled; the same for every client of a base."""
    looks = torch.stack([_wish(base, look, THINGS) for look in LOOKS])
    mean = looks.mean(dim=0)
    _, s, vt = torch.linalg.svd((looks - mean) / len(LOOKS) ** 0.5, full_matrices=False)
    dims = requirement_dims(looks.shape[1])
    peak = vt[torch.arange(len(vt)), vt.abs().argmax(dim=1)]
    vt = vt * torch.where(peak < 0, -1.0, 1.0)[:, None].to(vt)  # every client must choose the same signs
    return mean, vt[:dims] / (s[:dims].square() + 0.2 * s[0].square()).sqrt()[:, None]


def requirement(base: BaseModel, statement: str, prompts: Sequence[str]) -> Tensor:
    """A client's wish as one unit vector (16,), float32: all that leaves the client for clustering.

    The subjects of the prompts cancel in `_wish`, so that clients who want the same look are near each other whatever they
    draw. Text encoders spend most of their range on what all texts share; the wish is therefore taken relative to `LOOKS`:
    their mean is subtracted, and their leading principal directions are scaled to equal variance (whitening, arXiv
    2103.15316; the damping keeps directions without variance from being blown up).
    """
    origin, axes = _looks(base)
    return torch.nn.functional.normalize(axes @ (_wish(base, statement, prompts) - origin), dim=0).float()
