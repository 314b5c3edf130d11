"""Rules under which clients train or share one factor only: the mean of that factor is then the mean of the updates."""

from collections.abc import Iterable, Sequence

from fedcore.adapters import Adapter, Layer, truncated
from fedcore.aggregation.rule import Aggregated, Rule, Trains, nothing_discarded
from fedcore.aggregation.sums import exact_and_means, means


def combine(
    adapters: Iterable[Adapter],
    weights: Sequence[float],
    frozen: Adapter | None,
    *,
    rank: int,  # noqa: ARG001 the clients' own
    energy: float,  # noqa: ARG001
) -> Aggregated:
    """With `A` common, `Σ p_k s B_k A = s B̄ A`: exact, and likewise with `B` common.

    Clients that come from different clusters may have neither in common: the best approximation at their rank then.

    Raises:
        AdapterRefused: the ranks or scales differ.
    """
    out: dict[str, Layer] = {}
    lost: dict[str, float] = {}
    for name, whole, mean in exact_and_means(adapters, weights, frozen, "ffa' or 'rolora"):
        means_ = mean.layer()
        if mean.shared:
            out[name], lost[name] = means_, 0.0
        else:
            made = truncated(whole, means_.rank)
            out[name], lost[name] = made.layer, made.discarded
    return Aggregated(out, lost)


def combine_a(
    adapters: Iterable[Adapter],
    weights: Sequence[float],
    frozen: Adapter | None,  # noqa: ARG001
    *,
    rank: int,  # noqa: ARG001
    energy: float,  # noqa: ARG001
) -> Aggregated:
    """`Ā = Σ p_k A_k`; B is not handed over (it is zero here), so the cluster's update is zero: FedSA has no global model."""
    return nothing_discarded(means(adapters, weights, "fedsa"))


def only_b(_number: int) -> Trains:
    """FFA: A stays as it was drawn."""
    return "b"


def in_turn(number: int) -> Trains:
    """RoLoRA: odd rounds train B, even rounds A."""
    return "b" if number % 2 else "a"


FFA = Rule(combine, split="head", trains=only_b)
"""FFA-LoRA (arXiv 2403.12313): A frozen and common, half the bytes to aggregate, no quadratic noise under differential privacy."""

ROLORA = Rule(combine, split="head", trains=in_turn)
"""RoLoRA (arXiv 2409.02346): the factors take turns."""

FEDSA = Rule(combine_a, split="head", shares="a")
"""FedSA-LoRA (arXiv 2410.01463): clients train both factors and share A; every B stays its client's own."""
