"""What several families share: how CLIP's encoders read texts, how UNets and schedules are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fedcore.adapters import Adapter, Layer
from fedcore.base import BaseModel, Conditioning, Encoded, Shape

if TYPE_CHECKING:
    from transformers import BatchEncoding

BATCH = 64
"""Texts at a time."""

UNET_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
UNET_CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut")
JOINT_ATTENTION = (*UNET_ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""Of transformers that attend to pictures and prompts at once."""


def meanings(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of hidden `states` (n, tokens, width) over each text's own and end tokens, which `mask` (n, tokens) marks: (n, width)."""
    own = mask.clone()
    own[:, 0] = 0  # the start token is the same for all texts
    return (states * own[:, :, None]).sum(dim=1) / own.sum(dim=1, keepdim=True)


def tokenised(base: BaseModel, which: int, texts: Sequence[str], length: int | None = None) -> BatchEncoding:
    """Token ids and mask by the base's tokenizer `which`, cut and filled to the encoder's context or to `length`, on the base's device."""
    read = base.tokenizers[which](list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return read.to(base.device)


def batched(encode: Any, texts: Sequence[str]) -> Encoded:
    """`encode(part) -> Encoded` over parts of the texts, put together."""
    parts = [encode(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    prompts: Conditioning = parts[0].prompts
    for part in parts[1:]:
        prompts = prompts.followed_by(part.prompts)
    return Encoded(prompts.to(torch.device("cpu"), torch.float32), torch.cat([part.meanings for part in parts]).cpu())


def of_empty(base: BaseModel) -> Conditioning:
    """The encoding of the empty text."""
    return base.family.encode(base, [""]).prompts


def pixels_per_latent(base: BaseModel) -> int:
    """How many pixels of a side become one latent."""
    return int(2 ** (len(base.vae.config.block_out_channels) - 1))


def square(channels: int, made_for: int, base: BaseModel, size: int | None) -> Shape:
    """Latents of a square picture of `size` pixels; `made_for` latents a side without one."""
    side = made_for if size is None else size // pixels_per_latent(base)
    return channels, side, side


def levels(base: BaseModel) -> int:
    """A UNet halves the sides once for each of its levels but the last."""
    return int(2 ** (len(base.denoiser.config.block_out_channels) - 1))


def patch(base: BaseModel) -> int:  # noqa: ARG001 the same for every model of these families
    """Transformers of these families see patches of 2×2."""
    return 2


def underscored(adapter: Adapter, kernels: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Layer, tuple[int, ...]]]:
    """A UNet's layers as kohya names them."""
    return {"lora_unet_" + name.replace(".", "_"): (layer, kernels[name]) for name, layer in adapter.items()}


def plain_schedule(scheduler: Any, steps: int, shape: Shape) -> None:  # noqa: ARG001 the same for every family
    """The scheduler's own timesteps."""
    scheduler.set_timesteps(steps)


def dynamic_shift(scheduler: Any, shape: Shape) -> dict[str, float]:
    """μ for schedulers that shift by the number of 2×2 patches (Flux's line between two sizes); nothing for others."""
    of = scheduler.config
    if not getattr(of, "use_dynamic_shifting", False):
        return {}
    patches = (shape[1] // 2) * (shape[2] // 2)
    slope = (of.max_shift - of.base_shift) / (of.max_image_seq_len - of.base_image_seq_len)
    return {"mu": patches * slope + of.base_shift - slope * of.base_image_seq_len}
