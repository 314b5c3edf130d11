"""Pictures from encoded prompts: the base with any one adapter, guided; the text itself is never needed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedcore.adapters import Adapter
from fedcore.base import BaseModel, Conditioning
from fedcore.injection import injected
from fedcore.latents import decode
from fedcore.prompts import nothing
from fedcore.seeds import generator


@torch.no_grad()
def generate(
    base: BaseModel,
    prompts: Conditioning,
    adapter: Adapter | None,
    *,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    size: int | None = None,
    batch: int = 16,
    on_step: Callable[[int, int], None] = lambda _done, _of: None,
) -> Tensor:
    """uint8 pictures (n, 3, `size`, `size`) for n `prompts`, of the base's own size by default.

    Picture i starts from noise drawn with `seeds[i]` alone. The base's own scheduler, deterministic (DDIM: η = 0). The adapter
    stands beside the weights, as in diffusers, whose pictures with the exported adapter are the same.
    """
    shape = base.family.shape(base, size)
    noise = torch.stack([torch.randn(shape, generator=generator(seed, "picture")) for seed in seeds])
    pictures = []
    parts = torch.arange(len(noise)).split(batch)
    done = 0
    with injected(base.denoiser, adapter):
        base.denoiser.eval()
        for part in parts:
            scheduler = type(base.scheduler).from_config(base.scheduler.config)
            base.family.schedule(scheduler, steps, shape)
            current = noise[part] * getattr(scheduler, "init_noise_sigma", 1.0)
            for timestep in scheduler.timesteps:
                scaled = scheduler.scale_model_input(current, timestep) if hasattr(scheduler, "scale_model_input") else current
                predicted = guided(base, scaled, timestep, prompts.rows(part), guidance)
                current = scheduler.step(predicted, timestep, current).prev_sample
                done += 1
                on_step(done, steps * len(parts))
            pictures.append(decode(base, current))
    return torch.cat(pictures)


def guided(base: BaseModel, latents: Tensor, timestep: Tensor, prompts: Conditioning, guidance: float) -> Tensor:
    """The prediction for latents (n, channels, h, w) at one timestep, guided (arXiv 2207.12598) as the family is."""
    if not base.family.two_passes:
        return base.family.predict(base, latents, timestep.expand(len(latents)), prompts, guidance)
    both = nothing(base).times(len(prompts)).followed_by(prompts)
    twice = torch.cat([latents, latents])
    plain, wished = base.family.predict(base, twice, timestep.expand(len(twice)), both, guidance).chunk(2)
    return plain + guidance * (wished - plain)
