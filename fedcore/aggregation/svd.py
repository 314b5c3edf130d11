"""The best low-rank approximation of the exact mean update (FlexLoRA, arXiv 2402.11505, by QR instead of the dense matrix)."""

from collections.abc import Iterable, Sequence

from fedcore.adapters import Adapter, truncated
from fedcore.aggregation.rule import Aggregated, Rule, ideal


def combine(adapters: Iterable[Adapter], weights: Sequence[float], frozen: Adapter | None, *, rank: int, energy: float) -> Aggregated:
    """`D* = Σ p_k s_k B_k A_k (+ frozen)` cut to the least rank that keeps the share `energy` of ‖D*‖²_F, at most `rank`.

    Any ranks, any scales.
    """
    cut = {name: truncated(layer, rank, energy=energy) for name, layer in ideal(adapters, weights, frozen).items()}
    return Aggregated({name: c.layer for name, c in cut.items()}, {name: c.discarded for name, c in cut.items()})


SVD = Rule(combine, split="cut", mixed_ranks=True)
"""A client of a lower rank begins from the best approximation at its rank; what that leaves out is out of its sight."""

SVD_REST = Rule(combine, split="rest", mixed_ranks=True)
"""The same, but what a client's rank cannot carry stands frozen beside what it trains, so no client unlearns it by not seeing it."""
