"""Standardising an autoencoder's latents by folding is exact."""

from copy import deepcopy

import torch

from fedcore.pretraining.whitening import standardise
from fedcore.seeds import generator
from tests.tiny import vae

MEAN, STD = torch.tensor([0.3, -2.0, 0.0, 5.0]), torch.tensor([0.1, 3.0, 1.0, 0.5])


@torch.no_grad()
def test_latents_are_standardised_and_reconstructions_stay() -> None:
    before = vae()
    after = deepcopy(before)
    standardise(after, MEAN, STD)
    pictures = torch.rand(3, 3, 16, 16, generator=generator(0, "pictures")) * 2 - 1
    was, now = before.encode(pictures).latent_dist, after.encode(pictures).latent_dist
    mean, std = MEAN[:, None, None], STD[:, None, None]
    torch.testing.assert_close(now.mean, (was.mean - mean) / std, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(now.std, was.std / std, rtol=1e-4, atol=1e-6)
    latents = was.mean + was.std
    torch.testing.assert_close(after.decode((latents - mean) / std).sample, before.decode(latents).sample, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_measured_moments_become_zero_and_one() -> None:
    model = vae()
    pictures = torch.rand(8, 3, 16, 16, generator=generator(0, "pictures")) * 2 - 1
    latents = model.encode(pictures).latent_dist.mean
    standardise(model, latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)))
    white = model.encode(pictures).latent_dist.mean
    torch.testing.assert_close(white.mean(dim=(0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(white.std(dim=(0, 2, 3)), torch.ones(4), rtol=1e-4, atol=0)
