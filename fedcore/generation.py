"""Pictures from encoded prompts: classifier-free guidance over the base with any one adapter; the text itself is never needed."""

from collections.abc import Callable, Sequence

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from fedcore.adapters import Adapter
from fedcore.base import BaseModel
from fedcore.injection import merged
from fedcore.seeds import generator


@torch.no_grad()
def generate(
    base: BaseModel,
    tokens: Tensor,
    empty: Tensor,
    adapter: Adapter | None,
    *,
    seeds: Sequence[int],
    steps: int,
    guidance: float,
    batch: int = 16,
    on_step: Callable[[int, int], None] = lambda _done, _of: None,
) -> Tensor:
    """uint8 pictures (n, 3, h, w) for prompt encodings `tokens` (n, tokens, width), with `empty` (tokens, width) as negative.

    Picture i starts from noise drawn with `seeds[i]` alone. DDIM, deterministic (η = 0).
    """
    size, channels = base.unet.config.sample_size, base.unet.config.in_channels
    noise = torch.stack([torch.randn(channels, size, size, generator=generator(seed, "picture")) for seed in seeds])
    pictures = []
    total = steps * len(noise.split(batch))
    done = 0
    with merged(base.unet, adapter):
        base.unet.eval()
        for latents, prompts in zip(noise.split(batch), tokens.split(batch), strict=True):
            scheduler = DDIMScheduler.from_config(base.scheduler.config)
            scheduler.set_timesteps(steps)
            context = torch.cat([empty.expand_as(prompts), prompts])
            current = latents * scheduler.init_noise_sigma
            for timestep in scheduler.timesteps:
                both = scheduler.scale_model_input(torch.cat([current, current]), timestep)
                plain, wished = base.unet(both, timestep, context).sample.chunk(2)
                current = scheduler.step(plain + guidance * (wished - plain), timestep, current).prev_sample
                done += 1
                on_step(done, total)
            pictures.append(decode(base, current))
    return torch.cat(pictures)


@torch.no_grad()
def decode(base: BaseModel, latents: Tensor) -> Tensor:
    """Latents (n, channels, h, w) to uint8 pictures (n, 3, H, W)."""
    made = base.vae.decode(latents / base.vae.config.scaling_factor).sample
    pictures: Tensor = ((made.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pictures
