"""Stable Diffusion 3 and 3.5: two CLIPs and, where it is there, a T5; a transformer; rectified flow (arXiv 2403.03206)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from fedcore.base import BaseModel, Conditioning, Encoded, Family, Shape
from fedcore.families.encoding import batched, meanings, of_empty, tokenised
from fedcore.families.layers import JOINT_ATTENTION
from fedcore.families.sizes import as_trained, patch
from fedcore.families.timesteps import dynamic_shift
from fedcore.noise import Flow

T5_TOKENS = 256


@torch.no_grad()
def _encode(base: BaseModel, texts: Sequence[str]) -> Encoded:
    """CLIPs' states side by side, filled up to T5's width, then T5's tokens; pooled are both CLIPs' projections."""

    def part(some: Sequence[str]) -> Encoded:
        first = tokenised(base, 0, some)
        one = base.text_encoders[0](first.input_ids, output_hidden_states=True)
        two = base.text_encoders[1](tokenised(base, 1, some).input_ids, output_hidden_states=True)
        clip = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1).float()
        width = int(base.denoiser.config.joint_attention_dim)
        if len(base.text_encoders) > 2:
            t5 = base.text_encoders[2](tokenised(base, 2, some, T5_TOKENS).input_ids)[0].float()
        else:  # as the pipeline has it: T5's tokens are nought where it was left out
            t5 = torch.zeros(len(some), T5_TOKENS, width, device=clip.device)
        tokens = torch.cat([pad(clip, (0, width - clip.shape[-1])), t5], dim=1)
        pooled = torch.cat([one.text_embeds, two.text_embeds], dim=-1).float()
        return Encoded(Conditioning(tokens, pooled), meanings(one.hidden_states[-1].float(), first.attention_mask))

    return batched(part, texts)


def _predict(base: BaseModel, noisy: Tensor, timesteps: Tensor, prompts: Conditioning, guidance: float) -> Tensor:  # noqa: ARG001
    predicted: Tensor = base.denoiser(
        hidden_states=noisy, timestep=timesteps, encoder_hidden_states=prompts.tokens, pooled_projections=prompts.pooled
    ).sample
    return predicted


def _schedule(scheduler: Any, steps: int, shape: Shape) -> None:
    scheduler.set_timesteps(steps, **dynamic_shift(scheduler, shape))


def _largest(base: BaseModel) -> int:
    """A place in the table of positions for each patch."""
    return int(base.denoiser.config.pos_embed_max_size * base.denoiser.config.patch_size)


STABLE_DIFFUSION_3 = Family(
    pipeline="StableDiffusion3Pipeline",
    parts={
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "CLIPTokenizer",
        "tokenizer_3": "T5TokenizerFast",
        "text_encoder": "CLIPTextModelWithProjection",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "text_encoder_3": "T5EncoderModel",
        "vae": "AutoencoderKL",
        "transformer": "SD3Transformer2DModel",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
    },
    denoiser="transformer",
    attention=JOINT_ATTENTION,
    further=("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
    process=Flow.of,
    encode=_encode,
    nothing=of_empty,
    shape=as_trained,
    predict=_predict,
    schedule=_schedule,
    multiple=patch,
    largest=_largest,
    two_passes=True,
    kohya=None,
)
