"""FLoRA: factors are stacked, which is exact for any ranks; clients start afresh beside the result (arXiv 2409.05976)."""

from collections.abc import Iterable, Sequence

from fedcore.adapters import Adapter, truncated
from fedcore.aggregation.rule import Aggregated, Rule, ideal, nothing_discarded


def combine(
    adapters: Iterable[Adapter],
    weights: Sequence[float],
    frozen: Adapter | None,
    *,
    rank: int,  # noqa: ARG001 exact whatever it takes
    energy: float,  # noqa: ARG001
) -> Aggregated:
    """`[B_1 … B_K] · [p_1 s_1 A_1; …; p_K s_K A_K] + frozen = D*`: exact, the weight on one side only.

    The rank grows to Σ r_k a round; where that exceeds the layer's own size, the same update is written with as many rows.
    """
    made = ideal(adapters, weights, frozen)
    for name, layer in made.items():
        size = min(layer.b.shape[0], layer.a.shape[1])
        if layer.rank > size:
            made[name] = truncated(layer, size).layer
    return nothing_discarded(made)


STACK = Rule(combine, split="fresh", mixed_ranks=True)
