"""An adapter as a PEFT folder: `adapter_model.safetensors` and `adapter_config.json`, as `PeftModel.from_pretrained` opens it."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

from fedcore.adapters import Adapter

Kernels = Mapping[str, tuple[int, ...]]
"""Shape of the weight that each adapted layer has in the base: (out, in) or (out, in, kh, kw)."""


def kernels(unet: Path, names: list[str]) -> dict[str, tuple[int, ...]]:
    """Weight shapes from the UNet folder's safetensors header, without loading the model."""
    with safe_open(unet / "diffusion_pytorch_model.safetensors", "pt") as file:
        return {name: tuple(file.get_slice(f"{name}.weight").get_shape()) for name in names}


def write_peft(adapter: Adapter, shapes: Kernels, folder: Path, *, base: str) -> None:
    """Write the files, into a folder that nobody reads yet; scales become `lora_alpha` (per layer where they or the ranks differ)."""
    tensors = {}
    for name, layer in sorted(adapter.items()):
        spatial = shapes[name][2:]
        ones = (1,) * len(spatial)
        prefix = f"base_model.model.{name}"
        tensors[f"{prefix}.lora_A.weight"] = layer.a.reshape(layer.rank, shapes[name][1], *spatial).contiguous()
        tensors[f"{prefix}.lora_B.weight"] = layer.b.reshape(shapes[name][0], layer.rank, *ones).contiguous()
    first = next(iter(adapter.values()))
    alphas = {name: layer.rank * layer.scale for name, layer in sorted(adapter.items())}
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": first.rank,
        "lora_alpha": first.rank * first.scale,
        "target_modules": sorted(adapter),
        "rank_pattern": {n: layer.rank for n, layer in sorted(adapter.items()) if layer.rank != first.rank},
        "alpha_pattern": {n: alpha for n, alpha in alphas.items() if alpha != first.rank * first.scale},
        "lora_dropout": 0.0,
        "bias": "none",
    }
    (folder / "adapter_model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
