"""How a client of a given rank begins from an adapter of any rank."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedcore.adapters.layer import Adapter, Layer, single, with_scale
from fedcore.adapters.shown import shown
from fedcore.adapters.truncation import cut, truncated
from fedcore.errors import AdapterRefused
from fedcore.seeds import generator

VANISHED = 1e-7
"""A row of A below this share of the whole is rounding noise."""


def fresh_rows(rank: int, inputs: int, seed: int, name: str) -> Tensor:
    """Rows of A as LoRA begins with them, (rank, inputs): uniform in ±1/√inputs, as PEFT initialises."""
    rows: Tensor = (2 * torch.rand(rank, inputs, generator=generator(seed, "initial", rank, name)) - 1) / inputs**0.5
    return rows


def fitted(adapter: Adapter, rank: int, scale: float, *, seed: int) -> tuple[dict[str, Layer], float]:
    """The adapter brought to exactly `rank` and `scale`, as a client of that rank starts from it.

    Truncated where the rank is higher; where it is lower, or a component vanished, A gets fresh rows and B zeros: the same
    update, and the whole rank can be trained (zeros in both factors have no gradient). A layer of the right rank is only
    rescaled. Returns the adapter in float32 and the share of ‖Δ‖²_F that truncation discarded, over all layers.
    """
    if all(layer.rank == rank and layer.scale == scale for layer in adapter.values()):
        return {name: single(layer) for name, layer in adapter.items()}, 0.0
    small, discarded = cut({name: layer for name, layer in adapter.items() if layer.rank > rank}, rank)
    out: dict[str, Layer] = {}
    for name, layer in sorted({**adapter, **small}.items()):
        share = with_scale(layer, scale)
        a, b = fresh_rows(rank, layer.a.shape[1], seed, name).double(), torch.zeros(layer.b.shape[0], rank, dtype=torch.float64)
        alive = share.a.double().norm(dim=1) > VANISHED * share.a.double().norm()
        a[: layer.rank][alive], b[:, : layer.rank][:, alive] = share.a.double()[alive], share.b.double()[:, alive]
        out[name] = single(Layer(a, b, scale))
    return out, discarded


def begun_with(mine: Adapter, sent: Adapter, *, seed: int) -> dict[str, Layer]:
    """An adapter that was made elsewhere in the form of the one that a client was sent: its layers, ranks and scales.

    Layers that it lacks have no update yet, as in `sent` of a first round.

    Raises:
        AdapterRefused: it covers a layer that `sent` does not.
    """
    for name in sorted(set(mine) - set(sent)):
        raise AdapterRefused(f"the adapter to begin with covers {shown(name)}, which is not trained here; set adapter.target: all")
    out: dict[str, Layer] = {}
    for name, layer in sent.items():
        found, _ = fitted({name: mine[name]}, layer.rank, layer.scale, seed=seed) if name in mine else ({name: layer}, 0.0)
        out |= found
    return out


Split = Literal["cut", "rest", "head", "head+tail", "fresh"]
"""How clients begin from their cluster's adapter: see `split`."""


@dataclass(frozen=True)
class Beginning:
    """What a client trains (`start`, of its rank and scale), what stands frozen beside it (`tail`), the share of ‖Δ‖²_F left out."""

    start: dict[str, Layer]
    tail: dict[str, Layer] | None
    discarded: float


def split(adapter: Adapter, rank: int, scale: float, how: Split, *, seed: int) -> Beginning:
    """An adapter divided for a client of that rank, `Δ = Δ_start + Δ_tail (+ what is left out)`.

    `cut`: the best approximation at `rank`, the rest is left out. `rest`: the same, and the rest stands beside it. `head`: the
    first `rank` rows of A and columns of B as they are, the others are left out; `head+tail`: they stand beside it.
    `fresh`: a fresh start of zero update, and the whole adapter beside it (FLoRA, arXiv 2409.05976, merges it into the base).
    """
    if how == "fresh":
        rows = {n: fresh_rows(rank, layer.a.shape[1], seed, n) for n, layer in sorted(adapter.items())}
        return Beginning({n: Layer(a, torch.zeros(adapter[n].b.shape[0], rank), scale) for n, a in rows.items()}, dict(adapter), 0.0)
    if how == "cut":
        start, discarded = fitted(adapter, rank, scale, seed=seed)
        return Beginning(start, None, discarded)
    whole = {n: truncated(layer, layer.rank).layer for n, layer in adapter.items()} if how == "rest" else dict(adapter)
    first, others = _rows(whole, slice(0, rank)), _rows(whole, slice(rank, None))
    # All of the scale goes into B, as `folded` does it: clients go on with these very A.
    start, _ = fitted({n: Layer(layer.a, layer.b * (layer.scale / scale), scale) for n, layer in first.items()}, rank, scale, seed=seed)
    left = any(layer.rank for layer in others.values())
    if how == "head":
        total = sum(max(layer.energy(), 0.0) for layer in whole.values())
        return Beginning(start, None, sum(max(layer.energy(), 0.0) for layer in others.values()) / total if left and total > 0 else 0.0)
    return Beginning(start, {n: single(layer) for n, layer in others.items()} if left else None, 0.0)


def _rows(adapter: Adapter, which: slice) -> dict[str, Layer]:
    """The same rows of every A and columns of every B."""
    return {name: Layer(layer.a[which], layer.b[:, which], layer.scale) for name, layer in sorted(adapter.items())}
