"""FedIT: the mean of the A factors and the mean of the B factors, apart (arXiv 2305.05644)."""

from collections.abc import Iterable, Sequence

from fedcore.adapters import Adapter
from fedcore.aggregation.rule import Aggregated, Rule, nothing_discarded
from fedcore.aggregation.sums import means


def combine(
    adapters: Iterable[Adapter],
    weights: Sequence[float],
    frozen: Adapter | None,  # noqa: ARG001 there are no tails: clients begin from the whole
    *,
    rank: int,  # noqa: ARG001
    energy: float,  # noqa: ARG001
) -> Aggregated:
    """`Ā = Σ p_k A_k`, `B̄ = Σ p_k B_k` (scale s); not D*: it misses `s Σ p_k (B_k − B̄)(A_k − Ā)`.

    Raises:
        AdapterRefused: the ranks or scales differ.
    """
    return nothing_discarded(means(adapters, weights, "fedavg"))


FEDAVG = Rule(combine, split="head")
