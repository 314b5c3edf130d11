"""LoRA adapters as values: per adapted layer two factors and a scale, `Δ = scale · B A`; checks, arithmetic and truncation.

A convolution's factors, A (r, in, kh, kw) and B (out, r, 1, 1), are kept flattened as (r, in·kh·kw) and (out, r): the
same algebra holds for both kinds of layer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcore.adapters.shown import shown
from fedcore.errors import AdapterRefused


@dataclass(frozen=True)
class Layer:
    """One layer's update `Δ = scale · B A`: `a` (rank, in), `b` (out, rank); for LoRA `scale = alpha / rank`."""

    a: Tensor
    b: Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """Number of rows of A."""
        return self.a.shape[0]

    def folded(self) -> "Layer":
        """The same update in float64 with the scale folded into B."""
        return Layer(self.a.double(), self.b.double() * self.scale)

    def delta(self) -> Tensor:
        """The dense update (out, in) in float64, as large as the layer itself."""
        return (self.b.double() @ self.a.double()) * self.scale

    def energy(self) -> float:
        """‖Δ‖²_F without the dense matrix: tr((BᵀB)(AAᵀ))·scale²."""
        return inner(self, self)


Adapter = Mapping[str, Layer]
"""Layers by the name of the module they adapt."""


def inner(x: Layer, y: Layer) -> float:
    """⟨Δ_x, Δ_y⟩_F in float64 without the dense matrices: s_x s_y tr((B_xᵀB_y)(A_y A_xᵀ)). Ranks may differ."""
    left = x.b.double().T @ y.b.double()
    right = y.a.double() @ x.a.double().T
    return float((left * right.T).sum()) * x.scale * y.scale


def concatenated(layers: Sequence[Layer], weights: Sequence[float]) -> Layer:
    """Σ w_k Δ_k exactly, at rank Σ r_k, in float64; the weight goes on one side only (FLoRA, arXiv 2409.05976)."""
    parts = [layer.folded() for layer in layers]
    return Layer(torch.cat([p.a for p in parts]), torch.cat([p.b * w for p, w in zip(parts, weights, strict=True)], dim=1))


def summed(adapters: Sequence[Adapter], weights: Sequence[float] | None = None) -> dict[str, Layer]:
    """Σ w_k Δ_k exactly (w_k = 1 by default), as one adapter of rank Σ r_k; one that counts once comes back as it is."""
    of = [1.0] * len(adapters) if weights is None else list(weights)
    if of == [1.0]:
        return dict(adapters[0])
    return {name: concatenated([a[name] for a in adapters], of) for name in layer_names(adapters)}


def single(layer: Layer) -> Layer:
    """The layer in float32, contiguous, as it is stored and sent."""
    return Layer(layer.a.float().contiguous(), layer.b.float().contiguous(), layer.scale)


def with_scale(layer: Layer, scale: float) -> Layer:
    """The same update expressed with another scale, the difference shared by both factors."""
    share = (abs(layer.scale / scale)) ** 0.5
    sign = -1.0 if layer.scale / scale < 0 else 1.0
    return Layer(layer.a * share, layer.b * (share * sign), scale)


def relative_error(adapter: Adapter, ideal: Adapter) -> dict[str, float]:
    """‖Δ_ideal − Δ‖_F / ‖Δ_ideal‖_F for every layer, without dense matrices; 0 where the ideal is zero and met."""
    out: dict[str, float] = {}
    for name, want in sorted(ideal.items()):
        difference = concatenated([want, adapter[name]], [1.0, -1.0])
        norm = _norm(want)
        # Norms from orthogonal bases: where updates cancel, energies are rounding noise, even below zero.
        gap = _norm(difference)
        out[name] = gap / norm if norm > 0 else gap
    return out


def _norm(layer: Layer) -> float:
    """‖Δ‖_F by QR, accurate also when Δ nearly vanishes."""
    exact = layer.folded()
    r1 = torch.linalg.qr(exact.b, mode="r").R
    r2 = torch.linalg.qr(exact.a.T, mode="r").R
    norm: float = torch.linalg.matrix_norm(r1 @ r2.T).item()
    return norm


def layer_names(adapters: Iterable[Adapter]) -> list[str]:
    """The common layer names, sorted.

    Raises:
        AdapterRefused: an adapter covers other layers than the first one does.
    """
    names: list[str] | None = None
    for adapter in adapters:
        mine = sorted(adapter)
        if names is not None and mine != names:
            odd = min(set(mine) ^ set(names))
            raise AdapterRefused(f"adapters cover different layers: {shown(odd)} is not in all of them")
        names = mine
    return names or []
