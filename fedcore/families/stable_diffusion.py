"""Stable Diffusion 1.x and 2.x: one CLIP, a UNet, ε or v."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedcore.base import BaseModel, Conditioning, Encoded, Family, Kohya
from fedcore.families.encoding import batched, meanings, of_empty, tokenised
from fedcore.families.layers import UNET_ATTENTION, UNET_CONVOLUTIONS, underscored
from fedcore.families.sizes import as_trained, levels, unbounded
from fedcore.families.timesteps import offset_by_one
from fedcore.noise import Diffusion


@torch.no_grad()
def _encode(base: BaseModel, texts: Sequence[str]) -> Encoded:
    """The last hidden states."""

    def part(some: Sequence[str]) -> Encoded:
        read = tokenised(base, 0, some)
        states = base.text_encoders[0](read.input_ids).last_hidden_state.float()
        return Encoded(Conditioning(states), meanings(states, read.attention_mask))

    return batched(part, texts)


def _predict(base: BaseModel, noisy: Tensor, timesteps: Tensor, prompts: Conditioning, guidance: float) -> Tensor:  # noqa: ARG001
    predicted: Tensor = base.denoiser(noisy, timesteps, prompts.tokens).sample
    return predicted


SECOND_WIDTH = 1024
"""Of the prompts of version 2; version 1 has 768."""


def _kind(kernels: Mapping[str, tuple[int, ...]], predicts: str) -> tuple[str, str]:
    if not any(name.endswith("attn2.to_k") and kernel[1] == SECOND_WIDTH for name, kernel in kernels.items()):
        return "sd_v1_v" if predicts == "v_prediction" else "sd_v1", "stable-diffusion-v1/lora"
    return ("sd_v2_v", "stable-diffusion-v2-768-v/lora") if predicts == "v_prediction" else ("sd_v2", "stable-diffusion-v2-512/lora")


STABLE_DIFFUSION = Family(
    pipeline="StableDiffusionPipeline",
    parts={
        "tokenizer": "CLIPTokenizer",
        "text_encoder": "CLIPTextModel",
        "vae": "AutoencoderKL",
        "unet": "UNet2DConditionModel",
        "scheduler": "DDIMScheduler",
    },
    denoiser="unet",
    attention=UNET_ATTENTION,
    further=UNET_CONVOLUTIONS,
    process=Diffusion.of,
    encode=_encode,
    nothing=of_empty,
    shape=as_trained,
    predict=_predict,
    schedule=offset_by_one,
    multiple=levels,
    largest=unbounded,
    two_passes=True,
    kohya=Kohya(_kind, underscored),
)
