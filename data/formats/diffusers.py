"""An adapter as diffusers' file: `pytorch_lora_weights.safetensors`, as `pipeline.load_lora_weights` opens it.

ComfyUI opens those of transformers, too; a UNet's layers it knows by kohya's names only.
"""

import json
from pathlib import Path

from data.formats.tensors import Made, down_and_up, lora_config, serialised
from fedcore.adapters import Adapter, Layer

FILE = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"


def write_diffusers(adapter: Adapter, of: Made, folder: Path) -> None:
    """One file; ranks stand in its metadata, as diffusers' own trainers write them.

    Scales go into B: not every program looks for them in the metadata. Those that are powers of two cost no bit.
    """
    part, tensors = of.family.denoiser, {}
    adapter = {name: Layer(layer.a, layer.b * layer.scale, 1.0) for name, layer in adapter.items()}
    for name, layer in sorted(adapter.items()):
        for factor, value in zip(("lora_A", "lora_B"), down_and_up(layer, of.kernels[name]), strict=True):
            tensors[f"{part}.{name}.{factor}.weight"] = value
    about = {f"{part}.{key}": value for key, value in lora_config(adapter).items()}
    (folder / FILE).write_bytes(serialised(tensors, {"format": "pt", METADATA: json.dumps(about, sort_keys=True)}))
