"""Stable Diffusion XL: two CLIPs, a UNet that is also told the picture's size (arXiv 2307.01952)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedcore.base import BaseModel, Conditioning, Encoded, Family, Kohya
from fedcore.families.encoding import batched, meanings, of_empty, tokenised
from fedcore.families.layers import UNET_ATTENTION, UNET_CONVOLUTIONS, underscored
from fedcore.families.sizes import as_trained, levels, pixels_per_latent, unbounded
from fedcore.families.timesteps import plain_schedule
from fedcore.noise import Diffusion


@torch.no_grad()
def _encode(base: BaseModel, texts: Sequence[str]) -> Encoded:
    """Both encoders' last hidden states but one, side by side; pooled is the second one's projection."""

    def part(some: Sequence[str]) -> Encoded:
        first = tokenised(base, 0, some)
        one = base.text_encoders[0](first.input_ids, output_hidden_states=True)
        two = base.text_encoders[1](tokenised(base, 1, some).input_ids, output_hidden_states=True)
        tokens = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1).float()
        return Encoded(Conditioning(tokens, two.text_embeds.float()), meanings(one.last_hidden_state.float(), first.attention_mask))

    return batched(part, texts)


def _nothing(base: BaseModel) -> Conditioning:
    """Zeros where the model was trained so, as its index says; else the empty text."""
    empty = of_empty(base)
    if not base.options.get("force_zeros_for_empty_prompt", True) or empty.pooled is None:
        return empty
    return Conditioning(torch.zeros_like(empty.tokens), torch.zeros_like(empty.pooled))


def _predict(base: BaseModel, noisy: Tensor, timesteps: Tensor, prompts: Conditioning, guidance: float) -> Tensor:  # noqa: ARG001
    """Every picture is said to be whole and of its own size: original size, corner of the crop, target size."""
    height, width = (side * pixels_per_latent(base) for side in noisy.shape[2:])
    sizes = torch.tensor([float(x) for x in (height, width, 0, 0, height, width)], device=noisy.device).expand(len(noisy), -1)
    beside = {"text_embeds": prompts.pooled, "time_ids": sizes}
    predicted: Tensor = base.denoiser(noisy, timesteps, prompts.tokens, added_cond_kwargs=beside).sample
    return predicted


STABLE_DIFFUSION_XL = Family(
    pipeline="StableDiffusionXLPipeline",
    parts={
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "CLIPTokenizer",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "vae": "AutoencoderKL",
        "unet": "UNet2DConditionModel",
        "scheduler": "DDIMScheduler",
    },
    denoiser="unet",
    attention=UNET_ATTENTION,
    further=UNET_CONVOLUTIONS,
    process=Diffusion.of,
    encode=_encode,
    nothing=_nothing,
    shape=as_trained,
    predict=_predict,
    schedule=plain_schedule,
    multiple=levels,
    largest=unbounded,
    two_passes=True,
    kohya=Kohya(lambda _kernels, _predicts: ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"), underscored),
)
