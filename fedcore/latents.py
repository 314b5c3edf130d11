"""Between pictures and latents: the autoencoder, with its scale and, where it has one, its shift."""

import torch
from torch import Tensor

from fedcore.base import BaseModel
from fedcore.errors import InputError
from fedcore.families.common import pixels_per_latent


@torch.no_grad()
def decode(base: BaseModel, latents: Tensor) -> Tensor:
    """Latents (n, channels, h, w) to uint8 pictures (n, 3, H, W)."""
    of = base.vae.config
    made = base.vae.decode((latents / of.scaling_factor + (of.shift_factor or 0.0)).to(base.device)).sample.cpu()
    pictures: Tensor = ((made * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)  # diffusers rounds so, too
    return pictures


@torch.no_grad()
def posterior(base: BaseModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (n, 3, H, W) in [-1, 1] to the mean and log-variance of their latents, both (n, channels, h, w), as `decode` takes them."""
    of, found = base.vae.config, base.vae.encode(pixels.to(base.device)).latent_dist
    mean = (found.mean.cpu() - (of.shift_factor or 0.0)) * of.scaling_factor
    return mean, found.logvar.cpu() + 2 * torch.tensor(of.scaling_factor).log()


def picture_size(base: BaseModel) -> int:
    """Pixels of a side of the pictures that the base was made for."""
    return base.family.shape(base, None)[1] * pixels_per_latent(base)


def insist_on_size(base: BaseModel, size: int | None) -> None:
    """Refuse a size that is not a whole number of the denoiser's latents.

    Raises:
        InputError: the size, and what it must be a multiple of.
    """
    step = pixels_per_latent(base) * base.family.multiple(base)
    if size is not None and (size < step or size % step):
        raise InputError(
            f"pictures of {size} pixels cannot be drawn with this base; give a multiple of {step}, such as {picture_size(base)}"
        )
