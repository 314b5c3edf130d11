"""How good is an adapter: its loss on held-out pictures, with fixed noise."""

from __future__ import annotations

import torch
from torch import Tensor

from fedcore.adapters import Adapter
from fedcore.base import BaseModel
from fedcore.injection import merged
from fedcore.latents import at_most
from fedcore.seeds import generator
from fedcore.training import Examples

BATCH = 64
"""Noisy latents at a time, fewer where they are large."""


@torch.no_grad()
def heldout_losses(base: BaseModel, examples: Examples, adapter: Adapter | None, *, timesteps: int, seed: int) -> Tensor:
    """Unweighted squared error against the model's own target, per picture, (n,).

    Every picture is noised at the same `timesteps` stratum midpoints with noise fixed by (seed, row, stratum): equal for
    all adapters, rounds and methods, so that differences are paired. Latents are the posterior's means.
    """
    n = len(examples)
    strata = base.process.midpoints(timesteps)
    shape = examples.mean.shape[1:]
    noise = torch.stack([torch.randn(timesteps, *shape, generator=generator(seed, "heldout", row)) for row in range(n)])
    clean = examples.mean.repeat_interleave(timesteps, dim=0)
    prompts = examples.prompts.rows(torch.arange(n).repeat_interleave(timesteps))
    times = strata.repeat(n)
    noisy, target = base.process.noised(clean, noise.flatten(0, 1), times)
    errors = []
    with merged(base.denoiser, adapter):
        if base.denoiser.training:
            base.denoiser.eval()
        for part in torch.arange(len(times)).split(at_most(BATCH, shape)):
            predicted = base.predict(noisy[part], times[part], prompts.rows(part))
            errors.append((predicted - target[part]).square().mean(dim=(1, 2, 3)))
    return torch.cat(errors).view(n, timesteps).mean(dim=1)
