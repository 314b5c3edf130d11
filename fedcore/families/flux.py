"""Flux-type transformers: CLIP for one vector, T5 for the tokens, latents in patches of 2×2, rectified flow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedcore.base import BaseModel, Conditioning, Encoded, Family, Shape
from fedcore.families.common import JOINT_ATTENTION, batched, dynamic_shift, meanings, of_empty, pixels_per_latent, square, tokenised
from fedcore.noise import Flow

T5_TOKENS = 512


@torch.no_grad()
def _encode(base: BaseModel, texts: Sequence[str]) -> Encoded:
    """T5's tokens; pooled is CLIP's own."""

    def part(some: Sequence[str]) -> Encoded:
        read = tokenised(base.tokenizers[0], some)
        clip = base.text_encoders[0](read.input_ids)
        t5 = base.text_encoders[1](tokenised(base.tokenizers[1], some, T5_TOKENS).input_ids)[0].float()
        said = meanings(clip.last_hidden_state.float(), read.attention_mask)
        return Encoded(Conditioning(t5, clip.pooler_output.float()), said)

    return batched(part, texts)


def _shape(base: BaseModel, size: int | None) -> Shape:
    made_for = base.vae.config.sample_size // pixels_per_latent(base)
    return square(base.denoiser.config.in_channels // 4, made_for, base, size)


def packed(latents: Tensor) -> Tensor:
    """(n, c, h, w) as patches (n, h/2 · w/2, 4 c)."""
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, (h // 2) * (w // 2), 4 * c)


def unpacked(patches: Tensor, h: int, w: int) -> Tensor:
    """The inverse of `packed`."""
    n, _, c = patches.shape
    return patches.view(n, h // 2, w // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(n, c // 4, h, w)


def _predict(base: BaseModel, noisy: Tensor, timesteps: Tensor, prompts: Conditioning, guidance: float) -> Tensor:
    """With rows and columns of the patches as positions."""
    h, w = noisy.shape[2:]
    places = torch.zeros(h // 2, w // 2, 3, device=noisy.device)
    places[..., 1] += torch.arange(h // 2, device=noisy.device)[:, None]
    places[..., 2] += torch.arange(w // 2, device=noisy.device)[None, :]
    patches: Tensor = base.denoiser(
        hidden_states=packed(noisy),
        timestep=timesteps / base.scheduler.config.num_train_timesteps,
        guidance=torch.full((len(noisy),), guidance, device=noisy.device) if _guided(base) else None,
        encoder_hidden_states=prompts.tokens,
        pooled_projections=prompts.pooled,
        txt_ids=torch.zeros(prompts.tokens.shape[1], 3, device=noisy.device),
        img_ids=places.view(-1, 3),
    ).sample
    return unpacked(patches, h, w)


def _guided(base: BaseModel) -> bool:
    """The distilled models take the guidance as a number."""
    return bool(base.denoiser.config.guidance_embeds)


def _schedule(scheduler: Any, steps: int, shape: Shape) -> None:
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), **dynamic_shift(scheduler, shape))


FLUX = Family(
    pipeline="FluxPipeline",
    parts={
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "T5TokenizerFast",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "T5EncoderModel",
        "vae": "AutoencoderKL",
        "transformer": "FluxTransformer2DModel",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
    },
    denoiser="transformer",
    attention=JOINT_ATTENTION,
    further=("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out"),
    process=Flow.of,
    encode=_encode,
    nothing=of_empty,
    shape=_shape,
    predict=_predict,
    schedule=_schedule,
    two_passes=False,
)
