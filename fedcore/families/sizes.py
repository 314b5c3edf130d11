"""Sizes of latents beside those of pictures."""

from __future__ import annotations

from fedcore.base import BaseModel, Shape


def pixels_per_latent(base: BaseModel) -> int:
    """How many pixels of a side become one latent."""
    return int(2 ** (len(base.vae.config.block_out_channels) - 1))


def square(channels: int, made_for: int, base: BaseModel, size: int | None) -> Shape:
    """Latents of a square picture of `size` pixels; `made_for` latents a side without one."""
    side = made_for if size is None else size // pixels_per_latent(base)
    return channels, side, side


def as_trained(base: BaseModel, size: int | None) -> Shape:
    """Square latents of a denoiser that knows its own size; that one without a `size`."""
    return square(base.denoiser.config.in_channels, base.denoiser.config.sample_size, base, size)


def levels(base: BaseModel) -> int:
    """A UNet halves the sides once for each of its levels but the last."""
    return int(2 ** (len(base.denoiser.config.block_out_channels) - 1))


def unbounded(base: BaseModel) -> None:
    """A side may be of any length."""


def patch(base: BaseModel) -> int:  # noqa: ARG001 the same for every model of these families
    """Transformers of these families see patches of 2×2."""
    return 2
