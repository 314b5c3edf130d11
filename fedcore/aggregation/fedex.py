"""FedEx-LoRA: means of the factors, and what they miss of the exact mean as a frozen residual beside them (arXiv 2410.09432)."""

from collections.abc import Iterable, Sequence

import torch

from fedcore.adapters import Adapter, Layer, concatenated, truncated
from fedcore.aggregation.rule import Aggregated, Rule, nothing_discarded
from fedcore.aggregation.sums import exact_and_means


def combine(
    adapters: Iterable[Adapter],
    weights: Sequence[float],
    frozen: Adapter | None,
    *,
    rank: int,  # noqa: ARG001 exact whatever it takes
    energy: float,  # noqa: ARG001
) -> Aggregated:
    """`D* = s B̄ Ā + R`, `R = Σ p_k s B_k A_k − s B̄ Ā (+ frozen)`: the first r rows are the means, the others the residual.

    FedEx adds R to the base; several clusters share one base here, so it stays a frozen part of the adapter.

    Raises:
        AdapterRefused: the ranks or scales differ.
    """
    out: dict[str, Layer] = {}
    for name, whole, mean in exact_and_means(adapters, weights, frozen, "fedex"):
        head = mean.layer().folded()
        missing = concatenated([whole, head], [1.0, -1.0])
        size = min(missing.b.shape[0], missing.a.shape[1])
        tail = truncated(missing, min(missing.rank, size), energy=1 - 1e-12).layer
        out[name] = Layer(torch.cat([head.a, tail.a]), torch.cat([head.b, tail.b], dim=1))
    return nothing_discarded(out)


FEDEX = Rule(combine, split="head+tail")
