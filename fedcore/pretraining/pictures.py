"""Variations of the base pictures: moves and sizes, and drawn variants (outlines, line art, …) that give style words a meaning."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def move(pictures: Tensor, generator: torch.Generator, *, smallest: float = 0.8, flip: bool = True) -> Tensor:
    """Each picture scaled by [`smallest`, 1], mirrored half of the time and placed anywhere on the white canvas.

    `pictures`: (n, 3, h, w) in [-1, 1]; returns the same shape.
    """
    n = len(pictures)
    scale = smallest + (1 - smallest) * torch.rand(n, generator=generator)
    room = (1 - scale)[:, None] + 0.06  # how far the drawing may go, in halves of the canvas
    shift = room * (2 * torch.rand(n, 2, generator=generator) - 1)
    sign = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = sign / scale, 1 / scale
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    return 1 - F.grid_sample(1 - pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _light(pictures: Tensor) -> Tensor:
    """Luminance in [0, 1], (n, 1, h, w)."""
    red, green, blue = ((pictures + 1) / 2).split(1, dim=1)
    light: Tensor = 0.299 * red + 0.587 * green + 0.114 * blue
    return light


def _ink(pictures: Tensor, width: int) -> Tensor:
    """Where a pen would draw: 1 along edges of any colour, (n, 1, h, w). `width` is the stroke in pixels."""
    padded = F.pad(pictures, [width // 2, (width - 1) // 2] * 2, value=1.0)
    contrast = (F.max_pool2d(padded, width, 1) + F.max_pool2d(-padded, width, 1)).amax(dim=1, keepdim=True)
    return ((contrast - 0.35) * 3).clamp(0, 1)


def line_art(pictures: Tensor) -> Tensor:
    """Black lines on white."""
    return (1 - 2 * _ink(pictures, 3)).expand_as(pictures)


def outlined(pictures: Tensor) -> Tensor:
    """The colours inside bold black outlines."""
    ink = _ink(pictures, 4)
    return pictures * (1 - ink) - ink


def silhouette(pictures: Tensor) -> Tensor:
    """A solid black shape on white, its lightest parts left open."""
    return ((_light(pictures) - 0.82) * 12).clamp(-1, 1).expand_as(pictures)


def grey(pictures: Tensor) -> Tensor:
    """Shades of grey."""
    return (2 * _light(pictures) - 1).expand_as(pictures)


def pastel(pictures: Tensor) -> Tensor:
    """Pale colours with thin grey outlines."""
    return (1 - 0.5 * (1 - pictures)) - 0.9 * _ink(pictures, 2)


VARIANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "line-art": line_art,
    "outlined": outlined,
    "silhouette": silhouette,
    "grey": grey,
    "pastel": pastel,
}
