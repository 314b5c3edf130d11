"""Prompts become numbers here, on the client's side, and only numbers travel: token encodings for pictures, one vector for a wish."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from fedcore.base import BaseModel


@dataclass(frozen=True)
class Encoded:
    """`tokens` (n, tokens, width) is what generation and training use; `pooled` (n, width) is one vector a text.

    Pooled is the mean over a text's own tokens and its end token. The end token alone, which CLIP was trained to pool at,
    means little in an encoder that was trained together with a denoiser: nothing asks it to.
    """

    tokens: Tensor
    pooled: Tensor


def pooled(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of hidden `states` (n, tokens, width) over each text's own and end tokens, which `mask` (n, tokens) marks: (n, width)."""
    own = mask.clone()
    own[:, 0] = 0  # the start token is the same for all texts
    return (states * own[:, :, None]).sum(dim=1) / own.sum(dim=1, keepdim=True)


@torch.no_grad()
def encode(base: BaseModel, texts: Sequence[str], *, batch: int = 64) -> Encoded:
    """Encode texts one batch at a time; texts longer than the base's context are cut, as in every Stable Diffusion."""
    tokens, means = [], []
    for start in range(0, len(texts), batch):
        part = list(texts[start : start + batch])
        encoded = base.tokenizer(part, padding="max_length", truncation=True, return_tensors="pt")
        states = base.text_encoder(encoded.input_ids).last_hidden_state.float()
        tokens.append(states)
        means.append(pooled(states, encoded.attention_mask))
    return Encoded(torch.cat(tokens), torch.cat(means))


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
    """What a statement says, alone and beside prompts: `pooled(s) + mean_p [pooled(p + ", " + s) − pooled(p)]`, (width,) float64."""
    n = len(prompts)
    vectors = encode(base, [*prompts, *(f"{prompt}, {statement}" for prompt in prompts), statement]).pooled.double()
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
