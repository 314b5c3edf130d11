"""Between pictures and latents: the autoencoder, with its scale and, where it has one, its shift or its channels' means and spreads."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedcore.base import BaseModel
from fedcore.errors import InputError
from fedcore.families.sizes import pixels_per_latent

AT_ONCE = 2**20
"""Pixels that go through the autoencoder together (or one picture): it needs more memory for one than a denoiser for many."""


PLACES = 2**14
"""Places of latents that go through a denoiser together where nothing is trained (or one picture)."""


def at_most(batch: int, shape: Sequence[int]) -> int:
    """`batch`, or as many latents of this shape (channels, h, w) as there is room for."""
    return max(1, min(batch, PLACES // (shape[1] * shape[2])))


@torch.no_grad()
def decode(base: BaseModel, latents: Tensor) -> Tensor:
    """Latents (n, channels, h, w) to uint8 pictures (n, 3, H, W)."""
    (scale, shift), pictures = _law(base), list[Tensor]()
    for part in latents.split(_at_once(latents, pixels_per_latent(base))):
        made = base.vae.decode((part / scale + shift).to(base.device)).sample.cpu()
        pictures.append(((made * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8))  # diffusers rounds so, too
    return torch.cat(pictures)


@torch.no_grad()
def posterior(base: BaseModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (n, 3, H, W) in [-1, 1] to the mean and log-variance of their latents, both (n, channels, h, w), as `decode` takes them."""
    (scale, shift), means, log_variances = _law(base), list[Tensor](), list[Tensor]()
    for part in pixels.split(_at_once(pixels)):
        found = base.vae.encode(part.to(base.device)).latent_dist
        means.append((found.mean.cpu() - shift) * scale)
        log_variances.append(found.logvar.cpu() + 2 * scale.log())
    return torch.cat(means), torch.cat(log_variances)


def _law(base: BaseModel) -> tuple[Tensor, Tensor]:
    """Scale and shift between what the autoencoder makes and what the denoiser learnt, for all channels or (channels, 1, 1)."""
    of = base.vae.config
    scale, mean, spread = torch.tensor(of.scaling_factor), of.get("latents_mean"), of.get("latents_std")
    if mean is None or spread is None:
        return scale, torch.tensor(of.shift_factor or 0.0)
    return scale / torch.tensor(spread)[:, None, None], torch.tensor(mean)[:, None, None]


def _at_once(of: Tensor, pixels: int = 1) -> int:
    """How many of these go together, where each of their places stands for `pixels` × `pixels`."""
    return int(max(1, AT_ONCE // (of.shape[2] * of.shape[3] * pixels**2)))


def picture_size(base: BaseModel) -> int:
    """Pixels of a side of the pictures that the base was made for."""
    return base.family.shape(base, None)[1] * pixels_per_latent(base)


def insist_on_size(base: BaseModel, size: int | None) -> None:
    """Refuse a size that is not a whole number of the denoiser's latents, or more than it knows places for.

    Raises:
        InputError: the size, and what it must be a multiple of, or the largest.
    """
    largest = base.family.largest(base)
    if size is not None and largest is not None and size > largest * pixels_per_latent(base):
        raise InputError(
            f"pictures of {size} pixels cannot be drawn with this base; at most {largest * pixels_per_latent(base)} are possible"
        )
    step = pixels_per_latent(base) * base.family.multiple(base)
    if size is not None and (size < step or size % step):
        raise InputError(
            f"pictures of {size} pixels cannot be drawn with this base; give a multiple of {step}, such as {picture_size(base)}"
        )
