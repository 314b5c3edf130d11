"""Which layers of UNets and of joint transformers are adapted, and how kohya names a UNet's."""

from __future__ import annotations

from collections.abc import Mapping

from fedcore.adapters import Adapter, Layer

UNET_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
UNET_CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut")
JOINT_ATTENTION = (*UNET_ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""Of transformers that attend to pictures and prompts at once."""


def underscored(adapter: Adapter, kernels: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Layer, tuple[int, ...]]]:
    """A UNet's layers as kohya names them."""
    return {"lora_unet_" + name.replace(".", "_"): (layer, kernels[name]) for name, layer in adapter.items()}
