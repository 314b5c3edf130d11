"""Adapters as safetensors files, and what is insisted on before one from a stranger is used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedcore.adapters.layer import Adapter, Layer
from fedcore.adapters.shown import shown
from fedcore.errors import AdapterRefused

Factor = Literal["a", "b"]
PARTS = {"a": "lora_A", "b": "lora_B"}


Transport = Literal["fp32", "fp16"]
"""The numbers of factors that travel."""
DTYPES: Mapping[Transport, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}


def to_bytes(adapter: Adapter, *, only: Factor | None = None, transport: Transport = "fp32") -> bytes:
    """The adapter as one safetensors file: `<module>.lora_A`, `<module>.lora_B`, `<module>.scale`; equal adapters give equal bytes.

    With `only`, the other factor is left out: it was frozen, or is nobody else's business.
    """
    tensors, dtype = dict[str, Tensor](), DTYPES[transport]
    for name, layer in sorted(adapter.items()):
        if only != "b":
            tensors[f"{name}.lora_A"] = layer.a.to(dtype).contiguous()
        if only != "a":
            tensors[f"{name}.lora_B"] = layer.b.to(dtype).contiguous()
        tensors[f"{name}.scale"] = torch.tensor(layer.scale, dtype=torch.float32)
    blob: bytes = save(tensors)
    return blob


def from_bytes(blob: bytes, *, transport: Transport | None = None) -> dict[str, Layer]:
    """Read what `to_bytes` wrote, both factors; those in half precision become float32, in which everything is computed.

    Raises:
        AdapterRefused: not safetensors, a layer that is incomplete or of impossible shape, or with another `transport` than is given.
    """
    tensors, out = _opened(blob), {}
    for name in _names(tensors):
        a, b, scale = _taken(tensors, name, ("lora_A", "lora_B", "scale"))
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise AdapterRefused(f"layer {shown(name)} has factors of shapes {tuple(a.shape)} and {tuple(b.shape)} that do not multiply")
        out[name] = Layer(_whole(a, name, transport), _whole(b, name, transport), _scale(scale, name))
    _insist_on_nothing_else(tensors)
    return out


def completed(blob: bytes, only: Factor, other: Adapter, *, transport: Transport | None = None) -> dict[str, Layer]:
    """Read what `to_bytes` wrote with `only`, the factor that was left out taken from `other`.

    Raises:
        AdapterRefused: as `from_bytes`; or it covers other layers than `other`.
    """
    tensors, out = _opened(blob), {}
    names = _names(tensors)
    for name in sorted(set(names) ^ set(other)):
        raise AdapterRefused(
            f"layer {shown(name)} is missing" if name in other else f"layer {shown(name)} is not one of the adapted layers"
        )
    for name in names:
        factor, scale = _taken(tensors, name, (PARTS[only], "scale"))
        mine, shape = ("a", other[name].a.shape) if only == "a" else ("b", other[name].b.shape)
        if factor.shape != shape:
            raise AdapterRefused(f"layer {shown(name)} has a factor {mine.upper()} of shape {tuple(factor.shape)}, expected {tuple(shape)}")
        out[name] = replace(other[name], **{mine: _whole(factor, name, transport)}, scale=_scale(scale, name))
    _insist_on_nothing_else(tensors)
    return out


def _opened(blob: bytes) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load(blob)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that torch does not know
        raise AdapterRefused(f"not a safetensors file ({shown(str(error))}); adapters are exchanged as safetensors only") from None
    return tensors


def _names(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted({key.rsplit(".", 1)[0] for key in tensors})


def _taken(tensors: dict[str, Tensor], name: str, parts: Sequence[str]) -> list[Tensor]:
    """Remove a layer's entries from `tensors`."""
    found = {part: tensors.pop(f"{name}.{part}", None) for part in parts}
    if missing := [part for part, value in found.items() if value is None]:
        raise AdapterRefused(f"layer {shown(name)} lacks {', '.join(missing)}")
    return [value for value in found.values() if value is not None]


def _whole(factor: Tensor, name: str, transport: Transport | None) -> Tensor:
    if transport is not None and factor.dtype != DTYPES[transport]:
        raise AdapterRefused(f"layer {shown(name)} travels as {factor.dtype}, not as {DTYPES[transport]}")
    return factor.float() if factor.dtype == torch.float16 else factor


def _scale(scale: Tensor, name: str) -> float:
    if scale.is_complex():
        raise AdapterRefused(f"layer {shown(name)} has a complex scale")
    if scale.ndim != 0:
        raise AdapterRefused(f"layer {shown(name)} has a scale of shape {tuple(scale.shape)}, expected one number")
    return float(scale)


def _insist_on_nothing_else(tensors: Mapping[str, Tensor]) -> None:
    if tensors:
        raise AdapterRefused(f"holds an entry that is no part of an adapter: {shown(min(tensors))}")


Shapes = Mapping[str, tuple[int, int]]
"""(out, in) of every layer that an adapter covers."""

MAX_NORM = 1e4
"""A layer's ‖Δ‖_F above this is refused: no useful update of these models comes near it."""


def check(adapter: Adapter, like: Adapter) -> None:
    """Refuse an adapter that is not exactly what a client may send that was sent `like`.

    Checked: the set of layers, shapes, the rank, dtype float32, the scale, finite values, and the update's norm.

    Raises:
        AdapterRefused: names the first layer that is wrong, and why.
    """
    for name in sorted(set(like) - set(adapter)):
        raise AdapterRefused(f"layer {shown(name)} is missing")
    for name in sorted(set(adapter) - set(like)):
        raise AdapterRefused(f"layer {shown(name)} is not one of the {len(like)} adapted layers")
    for name, sent in sorted(like.items()):
        layer = adapter[name]
        if layer.a.dtype != torch.float32 or layer.b.dtype != torch.float32:
            raise AdapterRefused(f"layer {shown(name)} is {layer.a.dtype}/{layer.b.dtype}, not float32")
        if layer.a.shape != sent.a.shape or layer.b.shape != sent.b.shape:
            have, want = (f"{tuple(of.b.shape)}·{tuple(of.a.shape)}" for of in (layer, sent))
            raise AdapterRefused(f"layer {shown(name)} has factors {have}, expected {want}")
        if not math.isfinite(layer.scale):
            raise AdapterRefused(f"layer {shown(name)} has the scale {layer.scale:g}, which is not finite")
        if layer.scale != sent.scale:
            raise AdapterRefused(f"layer {shown(name)} has scale {layer.scale:g}, was sent with {sent.scale:g}")
        if not (torch.isfinite(layer.a).all() and torch.isfinite(layer.b).all()):
            raise AdapterRefused(f"layer {shown(name)} holds values that are not finite")
        norm = max(layer.energy(), 0.0) ** 0.5
        if not norm <= MAX_NORM:
            raise AdapterRefused(f"layer {shown(name)} has an update of norm {norm:.3g}, above the limit {MAX_NORM:.0g}")
