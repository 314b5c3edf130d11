"""What every aggregation rule takes and gives, and the exact weighted mean `D* = Σ p_k Δ_k` that each is measured against."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fedcore.adapters import Adapter, Layer, concatenated, layer_names


@dataclass(frozen=True)
class Aggregated:
    """One cluster's adapter, and per layer the share of ‖·‖²_F that truncation gave up (0 where nothing is truncated)."""

    adapter: dict[str, Layer]
    discarded: dict[str, float]


class Aggregate(Protocol):
    """Combine clients' adapters; inputs are left unchanged, reductions run in the order given (client-id order)."""

    def __call__(self, adapters: Sequence[Adapter], weights: Sequence[float], *, rank: int, energy: float) -> Aggregated:
        """`weights` sum to one. `rank` and `energy` bound the result's size where the rule has a choice."""


def normalised(counts: Sequence[int]) -> list[float]:
    """Clients' weights p_k = n_k / Σ n."""
    total = sum(counts)
    return [count / total for count in counts]


def ideal(adapters: Sequence[Adapter], weights: Sequence[float]) -> dict[str, Layer]:
    """`D* = Σ p_k s_k B_k A_k` exactly, at rank Σ r_k, float64."""
    return {name: concatenated([adapter[name] for adapter in adapters], weights) for name in layer_names(adapters)}
