"""Factors in the shapes that programs keep them in: a convolution's have its kernel's."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from data.base.folder import family_of, prediction_of
from fedcore.adapters import Adapter, Layer
from fedcore.base import Family

Kernels = Mapping[str, tuple[int, ...]]
"""Shape of the weight that each adapted layer has in the base: (out, in) or (out, in, kh, kw)."""


@dataclass(frozen=True)
class Made:
    """What an adapter was made for: the base by name, its family, what it predicts, the shapes of its adapted layers."""

    base: str
    family: Family
    predicts: str
    kernels: Kernels


class Writer(Protocol):
    """Writes an adapter's files into a folder that nobody reads yet."""

    def __call__(self, adapter: Adapter, of: Made, folder: Path) -> None:
        """Equal adapters give equal bytes."""


def made_for(name: str, folder: Path, layers: Iterable[str]) -> Made:
    """A base in `folder`; shapes from the headers of its denoiser's files, without loading the model."""
    family, wanted, found = family_of(folder), set(layers), dict[str, tuple[int, ...]]()
    for file in sorted((folder / family.denoiser).glob("*.safetensors")):
        with safe_open(file, "pt") as content:
            here = {key.removesuffix(".weight") for key in content.keys()} & wanted  # noqa: SIM118 safetensors has no iterator
            found |= {layer: tuple(content.get_slice(f"{layer}.weight").get_shape()) for layer in sorted(here)}
    return Made(name, family, prediction_of(folder), found)


def serialised(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """A safetensors file whose metadata stands in the order of its keys: the library leaves that to chance."""
    blob: bytes = save(dict(tensors), metadata=dict(about))
    length = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + blob[8 + length :]


def down_and_up(layer: Layer, kernel: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A (rank, in[, kh, kw]) and B (out, rank[, 1, 1])."""
    spatial = kernel[2:]
    down = layer.a.reshape(layer.rank, kernel[1], *spatial).contiguous()
    return down, layer.b.reshape(kernel[0], layer.rank, *(1 for _ in spatial)).contiguous()


def lora_config(adapter: Adapter) -> dict[str, object]:
    """Rank and alpha as PEFT counts them: those of the first layer, and by name where a layer's are others."""
    first = next(layer for _, layer in sorted(adapter.items()))
    alpha = first.rank * first.scale
    return {
        "r": first.rank,
        "lora_alpha": alpha,
        "target_modules": sorted(adapter),
        "rank_pattern": {n: layer.rank for n, layer in sorted(adapter.items()) if layer.rank != first.rank},
        "alpha_pattern": {n: layer.rank * layer.scale for n, layer in sorted(adapter.items()) if layer.rank * layer.scale != alpha},
        "lora_dropout": 0.0,
        "bias": "none",
    }
