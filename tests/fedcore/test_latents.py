"""Pictures and latents: what autoencoders say of their latents counts, as diffusers' pipelines count it."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from fedcore.base import BaseModel
from fedcore.latents import decode, posterior
from fedcore.seeds import generator
from tests.tiny import LATENT

MEAN, SPREAD = [0.5, -1.0, 0.25, 2.0], [2.0, 0.5, 1.0, 4.0]


@pytest.mark.parametrize("by_channel", [False, True])
def test_scale_and_shift_are_those_of_the_autoencoder(base: BaseModel, by_channel: bool) -> None:
    """SDXL's pipeline decodes `z · std / scale + mean`; others `z / scale + shift`."""
    vae = deepcopy(base.vae)
    vae.register_to_config(scaling_factor=0.7, **({"latents_mean": MEAN, "latents_std": SPREAD} if by_channel else {"shift_factor": 0.3}))
    of = replace(base, vae=vae)
    spread = torch.tensor(SPREAD).view(1, 4, 1, 1) if by_channel else torch.ones(1)
    mean = torch.tensor(MEAN).view(1, 4, 1, 1) if by_channel else torch.tensor(0.3)
    latents = torch.randn(2, *LATENT, generator=generator(0, "latents"))
    with torch.no_grad():
        want = vae.decode(latents * spread / 0.7 + mean).sample
        assert (decode(of, latents).float() - ((want / 2 + 0.5).clamp(0, 1) * 255)).abs().max() <= 1
        pixels = torch.rand(2, 3, 16, 16, generator=generator(0, "pixels")) * 2 - 1
        told = vae.encode(pixels).latent_dist
    found_mean, found_log_variance = posterior(of, pixels)
    torch.testing.assert_close(found_mean * spread / 0.7 + mean, told.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((0.5 * found_log_variance).exp() * spread / 0.7, told.std, rtol=1e-4, atol=1e-5)
