"""Cluster adapters after an exchange, in a form that clients can go on training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedcore.adapters import Adapter, Layer, Split, concatenated, summed, truncated
from fedcore.interaction.exchange import Weights


@dataclass(frozen=True)
class Exchanged:
    """A cluster's own adapter after the exchange, what stands frozen beside it, and the share of ‖Δ‖²_F that was cut off."""

    own: dict[str, Layer]
    beside: dict[str, Layer] | None
    discarded: float


def exchanged(adapters: Sequence[Adapter], weights: Weights, *, beside: bool, split: Split, head: int, rank: int) -> list[Exchanged]:
    """Row i: `Σ_j w_ij Δ_j`, or with `beside` the own adapter and `Σ_{j≠i} w_ij Δ_j` beside it.

    What clients make of a cluster's adapter (`split`) decides its form. A cluster that takes nothing from others stays as it
    is, to the bit. Where all clusters have the factor A (or B) in common, only the other one is mixed. `head+tail`: the first
    `head` rows stay the own ones. Otherwise the sum is cut to `rank` (`head`: to its own; `fresh`: not at all).
    """
    return [_row(adapters, weights, i, beside=beside, split=split, head=head, rank=rank) for i in range(len(adapters))]


def _row(adapters: Sequence[Adapter], weights: Weights, i: int, *, beside: bool, split: Split, head: int, rank: int) -> Exchanged:
    alone = all(float(weights[name][i].abs().sum()) == float(weights[name][i, i]) == 1.0 for name in adapters[i])
    if alone:
        return Exchanged(dict(adapters[i]), None, 0.0)
    others = [j for j in range(len(adapters)) if j != i]
    out: dict[str, Layer] = {}
    lost = total = 0.0
    for name in sorted(adapters[i]):
        layers, row = [adapter[name] for adapter in adapters], weights[name][i]
        if beside:
            layers, row = [layers[j] for j in others], row[others]
        made = _mixed(layers, row, 0 if beside else i, split="cut" if beside else split, head=head, rank=rank)
        energy = max(made.layer.energy(), 0.0) / max(1 - made.discarded, 1e-300)
        out[name], total, lost = made.layer, total + energy, lost + made.discarded * energy
    share = lost / total if total > 0 else 0.0
    return Exchanged(dict(adapters[i]), out, share) if beside else Exchanged(out, None, share)


@dataclass(frozen=True)
class _Made:
    layer: Layer
    discarded: float


def _mixed(layers: Sequence[Layer], row: Tensor, i: int, *, split: Split, head: int, rank: int) -> _Made:
    """Σ_j w_j Δ_j for one layer."""
    of = [float(w) for w in row]
    same_scale = len({layer.scale for layer in layers}) == 1
    if split == "head" and same_scale:
        for factor, other in (("a", "b"), ("b", "a")):
            if all(torch.equal(getattr(layer, factor), getattr(layers[0], factor)) for layer in layers):
                total = sum(w * getattr(layer, other).double() for w, layer in zip(of, layers, strict=True))
                return _Made(replace(layers[i], **{other: total}), 0.0)
    if split == "head+tail":
        own = layers[i].folded()
        first = Layer(own.a[:head], own.b[:, :head] * of[i])
        rest = [Layer(own.a[head:], own.b[:, head:]) if j == i else layer for j, layer in enumerate(layers)]
        tail = concatenated(rest, of)
        tail = truncated(tail, min(tail.rank, *_size(tail)), energy=1 - 1e-12).layer if tail.rank else tail
        return _Made(Layer(torch.cat([first.a, tail.a]), torch.cat([first.b, tail.b], dim=1)), 0.0)
    whole = concatenated(layers, of)
    bound = {"cut": rank, "rest": rank, "head": layers[i].rank, "fresh": min(_size(whole))}[split]
    made = truncated(whole, bound)
    return _Made(made.layer, made.discarded)


def _size(layer: Layer) -> tuple[int, int]:
    return layer.b.shape[0], layer.a.shape[1]


def mixed(adapters: Mapping[int, Adapter], weights: Mapping[int, float]) -> dict[str, Layer]:
    """Σ w_c Δ_c as one adapter: exact, by concatenated factors, at rank Σ r_c."""
    ids = sorted(c for c, w in weights.items() if w != 0)
    return summed([adapters[c] for c in ids], [weights[c] for c in ids])
