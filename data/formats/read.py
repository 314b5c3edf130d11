"""Reads an adapter that was made elsewhere: a PEFT folder, a diffusers file, or kohya's; trusted with nothing."""

import json
import re
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fedcore.adapters import Layer, shown
from fedcore.base import BaseModel
from fedcore.errors import AdapterRefused

A, B, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"


def read_adapter(path: Path, base: BaseModel) -> dict[str, Layer]:
    """The adapter in a file or a PEFT folder, whatever its dialect; layers by the names of the base's denoiser.

    Names are translated by diffusers' own converters, which look at the denoiser's configuration; its weights may lack values.
    What the file says of layers that are no part of the denoiser (text encoders) is refused, not dropped.

    Raises:
        AdapterRefused: one line that says what is wrong with the file.
    """
    file = path / "adapter_model.safetensors" if path.is_dir() else path
    try:
        tensors = load_file(file)
    except FileNotFoundError:
        raise AdapterRefused(f"{file}: there is no such file; {_instead(path)}") from None
    except (SafetensorError, OSError, KeyError):
        raise AdapterRefused(f"{file}: not a safetensors file; adapters are exchanged as safetensors only") from None
    if odd := sorted(key for key in tensors if "dora_scale" in key or "lora_magnitude_vector" in key):
        raise AdapterRefused(f"{file}: {shown(odd[0])} makes it a DoRA, which cannot be used; train it as a LoRA")
    if odd := sorted(key for key in tensors if key.endswith(".bias")):
        raise AdapterRefused(f"{file}: {shown(odd[0])} is a bias, which cannot be used; train the adapter without")
    if odd := sorted(key for key, value in tensors.items() if value.numel() != 1 and not value.is_floating_point()):
        raise AdapterRefused(f"{file}: {shown(odd[0])} holds {tensors[odd[0]].dtype}, not the numbers of an adapter")
    if all(any(block in key for key in tensors for block in named) for named in BLOCKS):
        raise AdapterRefused(f"{file}: it names layers in two ways, such as input_blocks and down_blocks; save it again with one")
    try:
        found, alphas, about = _peft(path, tensors) if path.is_dir() else _translated(file, base)
    except (ValueError, KeyError, IndexError, AttributeError, AssertionError, RuntimeError, TypeError) as error:
        raise AdapterRefused(f"{file}: its names are not those of an adapter for a {base.family.pipeline} ({_line(error)})") from None
    _insist_on_plain(file, about)
    return _layers(str(file), found, alphas, about)


BLOCKS = (("input_blocks", "middle_block", "output_blocks"), ("down_blocks", "mid_block", "up_blocks"))
"""A UNet's, as its first authors and as diffusers name them."""
PLAIN_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
"""PEFT's ways to begin that leave the base's weights as they are; with others, factors tell the update of another base."""


def _insist_on_plain(file: Path, about: Mapping[str, Any]) -> None:
    """Refuse what two factors beside the base's own weights do not hold."""
    if about.get("use_dora"):
        raise AdapterRefused(f"{file}: its configuration makes it a DoRA, which cannot be used; train it as a LoRA")
    began = about.get("init_lora_weights")
    if (began.lower() if isinstance(began, str) else began) not in PLAIN_BEGINNINGS:
        raise AdapterRefused(
            f"{file}: it was begun with {shown(str(began))}, which changes the base's weights as well; save it with "
            "path_initial_model_for_weight_conversion, which PEFT makes a plain LoRA of"
        )
    if about.get("layer_replication"):
        raise AdapterRefused(f"{file}: its configuration repeats layers (layer_replication), which cannot be used; train it without")


def _instead(path: Path) -> str:
    """What to give where a PEFT folder's file, or any, is not there."""
    if (path / "adapter_model.bin").exists():
        return "a .bin may run what it likes when it is opened; save the adapter again with safe_serialization=True"
    if path.is_dir() and (others := sorted(path.glob("*.safetensors"))):
        return f"this is no PEFT folder; give the file itself, such as {others[0]}"
    return "give a PEFT folder or a .safetensors file"


def _peft(folder: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float], dict[str, Any]]:
    try:
        about = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise AdapterRefused(f"{folder}: its adapter_config.json is missing or damaged") from None
    if not isinstance(about, dict) or about.get("peft_type") != "LORA":
        raise AdapterRefused(f"{folder}: no LoRA, and no other kind of adapter can be used")
    return {key.removeprefix("base_model.model."): value for key, value in tensors.items()}, {}, about


def _translated(file: Path, base: BaseModel) -> tuple[dict[str, Tensor], dict[str, float], dict[str, Any]]:
    """By diffusers: keys of the form `<layer>.lora_A.weight`, alphas by layer, and what the metadata says."""
    family = base.family
    pipeline, asked = getattr(diffusers, family.pipeline), {"return_lora_metadata": True, "local_files_only": True}
    if family.denoiser == "unet":
        asked["unet_config"] = base.denoiser.config  # kohya's trainers number the blocks of SDXL otherwise
    elif "return_alphas" in signature(pipeline.lora_state_dict).parameters:
        asked["return_alphas"] = True
    with_metadata = pipeline.lora_state_dict(str(file), **asked)
    found, metadata = with_metadata[0], with_metadata[-1]
    alphas = with_metadata[1] if len(with_metadata) == 3 else None
    prefix = f"{family.denoiser}."
    if foreign := sorted(key for key in found if not key.startswith(prefix)):
        raise AdapterRefused(f"{file}: {shown(foreign[0])} is no layer of the {family.denoiser}; only its layers can be adapted")
    both = {_modern(key.removeprefix(prefix)): value for key, value in [*found.items(), *(alphas or {}).items()]}
    by_layer = {_layer(key): float(value) for key, value in both.items() if key.endswith(ALPHA)}
    renamed = {key: value for key, value in both.items() if not key.endswith(ALPHA)}
    if lone := sorted(set(by_layer) - {_layer(key) for key in renamed}):
        raise AdapterRefused(f"{file}: layer {shown(lone[0])} has an alpha and no factors")
    about = {key.removeprefix(prefix): value for key, value in (metadata or {}).items()}
    return renamed, by_layer, about


def _modern(key: str) -> str:
    """Diffusers' older names of the factors as PEFT's."""
    for old, new in (
        (".lora.down.weight", A), (".lora.up.weight", B), ("_lora.down.weight", A), ("_lora.up.weight", B), (".processor.", "."),
        ("_lora.alpha", ".alpha"), ("to_out.lora_", "to_out.0.lora_"), ("to_out.alpha", "to_out.0.alpha"), ("to_out.0.0.", "to_out.0."),
    ):  # fmt: skip
        key = key.replace(old, new)
    return key


def _layer(key: str) -> str:
    return key.removesuffix(ALPHA).removesuffix(A).removesuffix(B)


def _layers(file: str, tensors: Mapping[str, Tensor], alphas: Mapping[str, float], about: Mapping[str, Any]) -> dict[str, Layer]:
    names = {_layer(key) for key in tensors}
    out: dict[str, Layer] = {}
    for name in sorted(names):
        down, up = tensors.get(name + A), tensors.get(name + B)
        if down is None or up is None:
            raise AdapterRefused(f"{file}: layer {shown(name)} lacks one of its two factors")
        if (
            down.ndim not in (2, 4)
            or up.ndim != down.ndim
            or up.shape[2:] != (1, 1)[: up.ndim - 2]
            or down.shape[0] != up.shape[1]
            or not len(down)
        ):
            both = f"{tuple(down.shape)} and {tuple(up.shape)}"
            raise AdapterRefused(f"{file}: layer {shown(name)} has factors of shapes {both} that do not multiply")
        if (rank := down.shape[0]) > MOST_RANK:
            raise AdapterRefused(f"{file}: layer {shown(name)} has rank {rank:,}; at most {MOST_RANK:,} can be used")
        scale = _alpha(file, name, rank, alphas, about) / (rank**0.5 if about.get("use_rslora") else rank)
        out[name] = Layer(down.float().flatten(1).contiguous(), up.float().flatten(1).contiguous(), scale)
    if not out:
        raise AdapterRefused(f"{file}: it holds no adapter")
    return out


def _alpha(file: str, name: str, rank: int, alphas: Mapping[str, float], about: Mapping[str, Any]) -> float:
    """A layer's alpha: by its name, by the first of PEFT's patterns that fits it, or the common one.

    PEFT runs these as regular expressions; a stranger's may take forever, so names and ends of names are all that is read.
    """
    patterns = about.get("alpha_pattern") or {}
    if odd := [pattern for pattern in patterns if not PLAIN.fullmatch(str(pattern))]:
        raise AdapterRefused(f"{file}: alpha_pattern {shown(str(odd[0]))} is no name of a layer, nor the end of one; write the names out")
    try:
        fits = (alpha for pattern, alpha in patterns.items() if _ends(name, pattern))
        return float(alphas[name] if name in alphas else next(fits, about.get("lora_alpha", rank)))
    except (TypeError, ValueError, AttributeError):
        raise AdapterRefused(f"{file}: the alpha of layer {shown(name)} is no number") from None


MOST_RANK = 1024
"""Far more than any adapter is trained with; the work to bring one to a client's rank grows with its square."""

PLAIN = re.compile(r"\^?[\w.-]+")


def _ends(name: str, pattern: str) -> bool:
    return name == pattern[1:] if pattern.startswith("^") else f".{name}".endswith(f".{pattern}")


def _line(error: Exception) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", " ".join(str(error).split()))[:160] or type(error).__name__
