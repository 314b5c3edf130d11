"""How good is an adapter: its loss on held-out pictures, with fixed noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedcore.adapters import Adapter
from fedcore.injection import merged
from fedcore.seeds import generator
from fedcore.training import Examples, noised

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, UNet2DConditionModel

BATCH = 64


@torch.no_grad()
def heldout_losses(
    unet: UNet2DConditionModel, scheduler: DDIMScheduler, examples: Examples, adapter: Adapter | None, *, timesteps: int, seed: int
) -> Tensor:
    """Unweighted squared error against the model's own target, per picture, (n,).

    Every picture is noised at the same `timesteps` stratum midpoints with noise fixed by (seed, row, stratum): equal for
    all adapters, rounds and methods, so that differences are paired. Latents are the posterior's means.
    """
    n, length = len(examples), len(scheduler.alphas_cumprod)
    strata = ((torch.arange(timesteps) + 0.5) / timesteps * length).long()
    shape = examples.mean.shape[1:]
    noise = torch.stack([torch.randn(timesteps, *shape, generator=generator(seed, "heldout", row)) for row in range(n)])
    clean = examples.mean.repeat_interleave(timesteps, dim=0)
    tokens = examples.tokens.repeat_interleave(timesteps, dim=0)
    times = strata.repeat(n)
    noisy, target = noised(scheduler, clean, noise.flatten(0, 1), times)
    errors = []
    with merged(unet, adapter):
        if unet.training:
            unet.eval()
        for part in torch.arange(len(times)).split(BATCH):
            predicted = unet(noisy[part], times[part], tokens[part]).sample.float()
            errors.append((predicted - target[part]).square().mean(dim=(1, 2, 3)))
    return torch.cat(errors).view(n, timesteps).mean(dim=1)
