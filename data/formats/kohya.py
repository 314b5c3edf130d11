"""An adapter as kohya's trainers write it, for ComfyUI and A1111: one file, alphas beside the factors, `ss_` metadata."""

from pathlib import Path

import torch
from torch import Tensor

from data.formats.tensors import Made, down_and_up, serialised
from fedcore.adapters import Adapter, single
from fedcore.errors import InputError

FILE = "lora.safetensors"


def write_kohya(adapter: Adapter, of: Made, folder: Path) -> None:
    """One file.

    Raises:
        InputError: kohya's format has no names for this family's layers that diffusers could read back.
    """
    names = of.family.kohya
    if names is None:
        raise InputError(f"there are no kohya names for a {of.family.pipeline}; use --format diffusers, whose file ComfyUI opens as well")
    tensors: dict[str, Tensor] = {}
    renamed = {name: (single(layer), kernel) for name, (layer, kernel) in sorted(names.renamed(adapter, of.kernels).items())}
    for name, (layer, kernel) in renamed.items():
        down, up = down_and_up(layer, kernel)
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(layer.rank * layer.scale)}
    version, architecture = names.kind(of.kernels, of.predicts)
    about = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(max(layer.rank for layer, _ in renamed.values())),
        "ss_network_alpha": str(max(layer.rank * layer.scale for layer, _ in renamed.values())),
        "ss_base_model_version": version,
        "ss_v2": str(version.startswith("sd_v2")),
        "ss_output_name": "fedcore",
        "ss_sd_model_name": Path(of.base).name,
        "modelspec.architecture": architecture,
    }
    (folder / FILE).write_bytes(serialised(tensors, about))
