"""What an aggregation rule is, and the exact weighted mean `D* = Σ p_k Δ_k` that each is measured against."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fedcore.adapters import Adapter, Factor, Layer, Split
from fedcore.aggregation.sums import UpdateSum, each

Trains = Literal["ab", "a", "b"]
"""Which factors clients train in a round."""


@dataclass(frozen=True)
class Aggregated:
    """One cluster's adapter, and per layer the share of ‖·‖²_F that truncation gave up (0 where nothing is truncated)."""

    adapter: dict[str, Layer]
    discarded: dict[str, float]


class Combine(Protocol):
    """Combine clients' adapters, looking at each once; inputs are left unchanged, sums run in the order given (client-id order)."""

    def __call__(
        self, adapters: Iterable[Adapter], weights: Sequence[float], frozen: Adapter | None, *, rank: int, energy: float
    ) -> Aggregated:
        """`weights` sum to one. `frozen` is `Σ p_k` of the tails that stood beside what clients trained, and belongs to the result.

        `rank` and `energy` bound the result's size where the rule has a choice.
        """


def both(_number: int) -> Trains:
    """Both factors in every round."""
    return "ab"


@dataclass(frozen=True)
class Rule:
    """How the adapters of a cluster's clients become the cluster's, and how clients begin from it.

    `split`: see `fedcore.adapters.split`; with `head` and `head+tail` the factors themselves are what clients go on with.
    `mixed_ranks`: clients may have different ranks. `trains(round)`: the factors that clients train, the others are frozen.
    `shares`: the only factor that clients hand over, where that is not what they train.
    """

    combine: Combine
    split: Split
    mixed_ranks: bool = False
    trains: Callable[[int], Trains] = both
    shares: Factor | None = None

    def handed_over(self, number: int) -> Factor | None:
        """The one factor that travels to the server in round `number`; None: both."""
        if self.shares is not None:
            return self.shares
        trained = self.trains(number)
        return None if trained == "ab" else trained


def shares_of(counts: Sequence[float]) -> list[float]:
    """Clients' weights p_k = n_k / Σ n."""
    total = sum(counts)
    return [count / total for count in counts]


def ideal(adapters: Iterable[Adapter], weights: Sequence[float], frozen: Adapter | None = None) -> dict[str, Layer]:
    """`D* = Σ p_k s_k B_k A_k (+ frozen)` exactly, in float64."""
    total = UpdateSum()
    for adapter, weight in each(adapters, weights):
        total.add(adapter, weight)
    if frozen is not None:
        total.add(frozen, 1.0)
    return total.adapter()


def nothing_discarded(adapter: dict[str, Layer]) -> Aggregated:
    """The result of a rule that truncates nothing."""
    return Aggregated(adapter, dict.fromkeys(adapter, 0.0))
