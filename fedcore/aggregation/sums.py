"""Sums over clients that take one adapter at a time: memory does not grow with the number of clients."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fedcore.adapters import Adapter, Layer, layer_names
from fedcore.errors import AdapterRefused


def each(adapters: Iterable[Adapter], weights: Sequence[float]) -> Iterator[tuple[Adapter, float]]:
    """Adapters with their weights, all of which cover the same layers.

    Raises:
        AdapterRefused: one covers other layers than the first.
    """
    first: list[str] | None = None
    for adapter, weight in zip(adapters, weights, strict=True):
        if first is None:
            first = sorted(adapter)
        elif first != sorted(adapter):
            layer_names([dict.fromkeys(first, next(iter(adapter.values()))), adapter])
        yield adapter, weight


class ProductSum:
    """`Σ w_k Δ_k` of one layer, exactly, in float64: factors side by side while these are smaller than the layer, dense beyond."""

    def __init__(self) -> None:
        """The empty sum."""
        self._a: list[Tensor] = []
        self._b: list[Tensor] = []
        self._dense: Tensor | None = None

    def add(self, layer: Layer, weight: float) -> None:
        """Add `weight · Δ`."""
        self._a.append(layer.a.double())
        self._b.append(layer.b.double() * layer.scale * weight)
        out, inputs = layer.b.shape[0], layer.a.shape[1]
        if sum(len(a) for a in self._a) >= 2 * min(out, inputs):
            product = torch.cat(self._b, dim=1) @ torch.cat(self._a)
            self._dense = product if self._dense is None else self._dense + product
            self._a, self._b = [], []

    def layer(self) -> Layer:
        """The sum so far, as factors."""
        if self._dense is None:
            return Layer(torch.cat(self._a), torch.cat(self._b, dim=1))
        dense = self._dense + torch.cat(self._b, dim=1) @ torch.cat(self._a) if self._a else self._dense
        out, inputs = dense.shape
        one = torch.eye(min(out, inputs), dtype=torch.float64)
        return Layer(dense, one) if out <= inputs else Layer(one, dense)


class UpdateSum:
    """`Σ w_k Δ_k` of whole adapters."""

    def __init__(self) -> None:
        """The empty sum."""
        self._layers: dict[str, ProductSum] = {}

    def add(self, adapter: Adapter, weight: float) -> None:
        """Add one."""
        for name, layer in adapter.items():
            self._layers.setdefault(name, ProductSum()).add(layer, weight)

    def adapter(self) -> dict[str, Layer]:
        """The sum so far."""
        return {name: total.layer() for name, total in sorted(self._layers.items())}


class FactorMean:
    """`Ā = Σ w_k A_k`, `B̄ = Σ w_k B_k` of one layer, for weights that sum to one; a factor that all share comes back to the bit."""

    def __init__(self, rule: str) -> None:
        """`rule` is who asks, for errors."""
        self._rule = rule
        self._first: Layer | None = None
        self._sums: dict[str, Tensor] = {}
        self._shared = {"a": True, "b": True}

    def add(self, layer: Layer, weight: float) -> None:
        """Add one.

        Raises:
            AdapterRefused: its rank or scale is not that of the others.
        """
        first = self._first = self._first or layer
        for what, mine, theirs in (("ranks", layer.rank, first.rank), ("scales", layer.scale, first.scale)):
            if mine != theirs:
                both = sorted((mine, theirs))
                raise AdapterRefused(f"aggregation '{self._rule}' needs equal {what}, got {both}; use 'svd' for mixed ranks")
        for factor in ("a", "b"):
            value = getattr(layer, factor)
            self._shared[factor] &= torch.equal(value, getattr(first, factor))
            part = value.double() * weight
            self._sums[factor] = self._sums[factor] + part if factor in self._sums else part

    @property
    def shared(self) -> bool:
        """Had all one of the factors in common? Then the mean of the factors is that of the updates."""
        return any(self._shared.values())

    def layer(self) -> Layer:
        """The means, at the common scale."""
        if self._first is None:
            raise AdapterRefused("a mean of no adapters")
        a, b = (getattr(self._first, f).double() if self._shared[f] else self._sums[f] for f in ("a", "b"))
        return replace(self._first, a=a, b=b)


def means(adapters: Iterable[Adapter], weights: Sequence[float], rule: str) -> dict[str, Layer]:
    """`Ā` and `B̄` of every layer.

    Raises:
        AdapterRefused: ranks, scales or layers differ.
    """
    sums: dict[str, FactorMean] = {}
    for adapter, weight in each(adapters, weights):
        for name, layer in adapter.items():
            sums.setdefault(name, FactorMean(rule)).add(layer, weight)
    return {name: total.layer() for name, total in sorted(sums.items())}


def exact_and_means(
    adapters: Iterable[Adapter], weights: Sequence[float], frozen: Adapter | None, rule: str
) -> Iterator[tuple[str, Layer, FactorMean]]:
    """Every layer's exact `Σ p_k Δ_k (+ frozen)` beside the means of its factors.

    Raises:
        AdapterRefused: ranks, scales or layers differ.
    """
    exact, of_factors = UpdateSum(), dict[str, FactorMean]()
    for adapter, weight in each(adapters, weights):
        exact.add(adapter, weight)
        for name, layer in adapter.items():
            of_factors.setdefault(name, FactorMean(rule)).add(layer, weight)
    if frozen is not None:
        exact.add(frozen, 1.0)
    for name, layer in exact.adapter().items():
        yield name, layer, of_factors[name]
