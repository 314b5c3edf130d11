"""The best low-rank approximation of the exact mean update (FlexLoRA, arXiv 2402.11505, by QR instead of the dense matrix)."""

from collections.abc import Sequence

from fedcore.adapters import Adapter, truncated
from fedcore.aggregation.rule import Aggregated, ideal


def svd(adapters: Sequence[Adapter], weights: Sequence[float], *, rank: int, energy: float) -> Aggregated:
    """`D* = Σ p_k s_k B_k A_k` cut to the least rank that keeps the share `energy` of ‖D*‖²_F, at most `rank`. Any ranks, any scales."""
    cut = {name: truncated(layer, rank, energy=energy) for name, layer in ideal(adapters, weights).items()}
    return Aggregated({name: c.layer for name, c in cut.items()}, {name: c.discarded for name, c in cut.items()})
