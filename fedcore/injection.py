"""PEFT adapters in a denoiser for the length of a `with` block: injected, loaded with given values, read back, removed without trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import torch
from torch import nn

from fedcore.adapters import Adapter, Layer, Shapes, fresh_rows
from fedcore.errors import AdapterRefused
from fedcore.seeds import derive, isolated

if TYPE_CHECKING:  # seconds to import; whoever only reads a configuration does not pay them
    from peft.tuners.lora import LoraLayer

    from fedcore.base import BaseModel, Denoiser

Target = Literal["attention", "all"]

NAME = "fedcore"
KEPT = 4
"""Layouts of PEFT's layers that are kept."""


def target_shapes(base: BaseModel, target: Target) -> dict[str, tuple[int, int]]:
    """(out, in) of each layer to adapt; a convolution's `in` is in·kh·kw."""
    ends = base.family.attention + (base.family.further if target == "all" else ())
    found: dict[str, tuple[int, int]] = {}
    for name, module in base.denoiser.named_modules():
        if name.endswith(tuple(f".{end}" for end in ends)) and isinstance(module, nn.Linear | nn.Conv2d):
            found[name] = (module.weight.shape[0], module.weight[0].numel())
    return found


def initial(shapes: Shapes, *, rank: int, scale: float, seed: int) -> dict[str, Layer]:
    """A fresh adapter: A of fresh rows, B zero; the same for every client, so that factors stay comparable."""
    out: dict[str, Layer] = {}
    for name, (rows, columns) in sorted(shapes.items()):
        out[name] = Layer(fresh_rows(rank, columns, seed, name), torch.zeros(rows, rank), scale)
    return out


def _layers(denoiser: Denoiser) -> Iterator[tuple[str, LoraLayer]]:
    from peft.tuners.lora import LoraLayer

    for name, module in denoiser.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def _factors(layer: LoraLayer) -> tuple[nn.Parameter, nn.Parameter]:
    return layer.lora_A[NAME].weight, layer.lora_B[NAME].weight


def _insist_known(denoiser: Denoiser, adapter: Adapter) -> None:
    """Refuse an adapter for layers that this model does not have; PEFT would drop them with a warning."""
    for name in sorted(adapter):
        try:
            denoiser.get_submodule(name)
        except AttributeError:
            raise AdapterRefused(f"the base has no layer '{name}': this adapter belongs to another model") from None


Layout = tuple[tuple[str, int, float, torch.device, torch.dtype], ...]
_made: WeakKeyDictionary[Denoiser, dict[Layout, dict[str, LoraLayer]]] = WeakKeyDictionary()


def _lora_layers(denoiser: Denoiser, adapter: Adapter) -> dict[str, LoraLayer]:
    """PEFT's layers for an adapter of these names, ranks and scales, in order of their names; they are not in the model.

    The last few layouts are kept: PEFT takes longer to make them than a tiny client to train them. Factors are float32
    whatever the weights are: small updates would be lost in half precision.
    """
    from peft import LoraConfig

    weights = {name: denoiser.get_submodule(name).weight for name in adapter}
    layout = tuple((n, layer.rank, layer.scale, weights[n].device, weights[n].dtype) for n, layer in sorted(adapter.items()))
    made = _made.setdefault(denoiser, {})
    if layout not in made:
        first = next(iter(adapter.values()))
        config = LoraConfig(
            r=first.rank,
            lora_alpha=first.rank * first.scale,
            target_modules=sorted(adapter),
            rank_pattern={name: layer.rank for name, layer in adapter.items()},
            alpha_pattern={name: layer.rank * layer.scale for name, layer in adapter.items()},
            lora_dropout=0.0,
        )
        with isolated(derive(0, "injection")):  # PEFT draws initial values from the global generator; the adapter's replace them
            denoiser.add_adapter(config, adapter_name=NAME)
        layers = dict(sorted(_layers(denoiser)))
        denoiser.unload_lora()
        for layer in layers.values():
            for factor in _factors(layer):
                factor.data = factor.data.float()
        made[layout] = layers
        while len(made) > KEPT:
            made.pop(next(iter(made)))
    made[layout] = made.pop(layout)  # the last one used is the last one to go
    return made[layout]


def _values_of(adapter: Adapter) -> list[torch.Tensor]:
    """A's and B's in the order of `injected`."""
    return [value for name in sorted(adapter) for value in (adapter[name].a, adapter[name].b)]


@contextmanager
def injected(denoiser: Denoiser, adapter: Adapter | None) -> Iterator[list[nn.Parameter]]:
    """`denoiser` with `adapter` (None: plain) inside the block; yields the trainable factors, in order of their layers' names.

    Ranks and scales may differ from layer to layer. The base's weights are frozen and come back untouched.

    Raises:
        AdapterRefused: the adapter names a layer that this model does not have.
    """
    denoiser.requires_grad_(False)
    if adapter is None:
        yield []
        return
    _insist_known(denoiser, adapter)
    layers = _lora_layers(denoiser, adapter)
    parameters: list[nn.Parameter] = [factor for layer in layers.values() for factor in _factors(layer)]
    with torch.no_grad():
        for parameter, value in zip(parameters, _values_of(adapter), strict=True):
            parameter.copy_(value.view_as(parameter))
            parameter.grad = None
            parameter.requires_grad_(True)
    try:
        for name, layer in layers.items():
            denoiser.set_submodule(name, layer)
        yield parameters
    finally:
        for name, layer in layers.items():
            denoiser.set_submodule(name, layer.get_base_layer())
        denoiser.requires_grad_(False)


@contextmanager
def merged(denoiser: Denoiser, adapter: Adapter | None) -> Iterator[None]:
    """`denoiser` with the updates added to its weights inside the block: as fast as the plain model.

    The weights themselves stay as they are, which other processes may share; sums take their places. For measuring; equal to
    `injected` within rounding. Half-precision weights would round small updates away, and get `injected`.

    Raises:
        AdapterRefused: the adapter names a layer that this model does not have.
    """
    _insist_known(denoiser, adapter or {})
    weights = {name: denoiser.get_submodule(name).weight for name in adapter or {}}
    if any(weight.dtype != torch.float32 for weight in weights.values()):
        with injected(denoiser, adapter):
            yield
        return
    kept = {name: weight.data for name, weight in weights.items()}
    try:
        for name, layer in (adapter or {}).items():
            weights[name].data = kept[name].clone().add_(_there(layer.delta(), kept[name]))
        yield
    finally:
        for name, weight in weights.items():
            weight.data = kept[name]


def _there(delta: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A dense update in the shape and on the device of its weight, in float64 where the device has it."""
    return (delta.float() if weight.device.type == "mps" else delta).to(weight.device).view_as(weight)


def read_back(denoiser: Denoiser) -> dict[str, Layer]:
    """Copies of the values of the adapter that is injected now."""
    out: dict[str, Layer] = {}
    for name, module in sorted(_layers(denoiser)):
        a, b = (factor.detach().flatten(1).cpu().clone() for factor in _factors(module))
        out[name] = Layer(a, b, float(module.scaling[NAME]))
    return out
