"""An adapter as a PEFT folder: `adapter_model.safetensors` and `adapter_config.json`, as `PeftModel.from_pretrained` opens it."""

import json
from pathlib import Path

from data.formats.tensors import Made, down_and_up, lora_config, serialised
from fedcore.adapters import Adapter


def write_peft(adapter: Adapter, of: Made, folder: Path) -> None:
    """Both files."""
    tensors = {}
    for name, layer in sorted(adapter.items()):
        for part, value in zip(("lora_A", "lora_B"), down_and_up(layer, of.kernels[name]), strict=True):
            tensors[f"base_model.model.{name}.{part}.weight"] = value
    about = {"peft_type": "LORA", "task_type": None, "base_model_name_or_path": of.base, "inference_mode": True}
    (folder / "adapter_model.safetensors").write_bytes(serialised(tensors, {"format": "pt"}))
    (folder / "adapter_config.json").write_text(json.dumps(about | lora_config(adapter), indent=1) + "\n")
