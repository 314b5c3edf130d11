"""The folder of a base model: where it lies, whether its parts are there, and the digest that names its weights."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from fedcore.errors import BaseModelError

EMBEDDED = Path(__file__).parent / "weights"
PARTS = ("tokenizer", "text_encoder", "vae", "unet", "scheduler")


def base_folder(name: str) -> Path:
    """The folder that a federation's `base` names.

    Raises:
        BaseModelError: it is missing, or lacks a part of a Stable Diffusion pipeline.
    """
    folder = EMBEDDED if name == "embedded" else Path(name)
    if not (folder / "model_index.json").is_file():
        raise BaseModelError(
            f"base '{name}': {folder} holds no model_index.json; give a folder that StableDiffusionPipeline.save_pretrained wrote"
        )
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise BaseModelError(f"base '{name}': {folder} has no folder '{missing[0]}'; a Stable Diffusion pipeline needs {', '.join(PARTS)}")
    return folder


@lru_cache(maxsize=2)
def digest(folder: Path) -> str:
    """Names the base by its files' content; the same for the same weights wherever they lie."""
    total = hashlib.sha256()
    for file in sorted(p for part in PARTS for p in (folder / part).rglob("*") if p.is_file()):
        total.update(file.relative_to(folder).as_posix().encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def text_width(folder: Path) -> int:
    """The width of the text encoder's hidden states."""
    config: dict[str, int] = json.loads((folder / "text_encoder" / "config.json").read_text())
    return config["hidden_size"]
