"""An adapter as diffusers' file: `pytorch_lora_weights.safetensors`, as `pipeline.load_lora_weights` opens it; ComfyUI does, too."""

import json
from pathlib import Path

from data.formats.tensors import Made, down_and_up, lora_config, serialised
from fedcore.adapters import Adapter

FILE = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"


def write_diffusers(adapter: Adapter, of: Made, folder: Path) -> None:
    """One file; ranks and alphas stand in its metadata, as diffusers' own trainers write them."""
    part, tensors = of.family.denoiser, {}
    for name, layer in sorted(adapter.items()):
        for factor, value in zip(("lora_A", "lora_B"), down_and_up(layer, of.kernels[name]), strict=True):
            tensors[f"{part}.{name}.{factor}.weight"] = value
    about = {f"{part}.{key}": value for key, value in lora_config(adapter).items()}
    (folder / FILE).write_bytes(serialised(tensors, {"format": "pt", METADATA: json.dumps(about, sort_keys=True)}))
