"""What a client has for itself alone, after its share of the common work: a training of its own, or a mixture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch

from fedcore.adapters import Adapter, Layer, begun_with, fresh_rows, summed
from fedcore.training import Settings

Method = Literal["last", "mixture", "ditto", "dual"]
TRAINED = ("ditto", "dual")
"""The methods that train something of the client's own."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""What a mixture may hold of the client's own adapter."""


class Plan(Protocol):
    """What of the configuration matters here."""

    @property
    def method(self) -> Method:
        """See `beginning`."""

    @property
    def steps(self) -> int:
        """Steps of the personal training."""

    @property
    def prox(self) -> float:
        """Weight of Ditto's proximal term."""


@dataclass(frozen=True)
class Personal:
    """A personal training: where it begins, what stands frozen `beside` it, what the proximal term pulls to."""

    start: Adapter
    beside: Adapter | None
    anchor: Adapter | None


def beginning(plan: Plan, sent: Adapter, shared: Adapter, own: Adapter | None, beside: Sequence[Adapter], *, seed: int) -> Personal:
    """How a personal training begins; `own` is the personal adapter of an earlier round, when the client's rank may have been another.

    `ditto` (arXiv 2012.04221): the own adapter, at first what was sent, goes on with `λ/2 ‖v − w‖²` to what was sent, w.
    `dual` (FedDPA, arXiv 2403.19211): a fresh adapter of its own, P, learns what the shared one, frozen
    beside it, does not tell: `min_P loss(base + Δ_shared + Δ_P)`.
    """
    own = None if own is None else begun_with(own, sent, seed=seed)
    if plan.method == "ditto":
        return Personal(own or sent, summed(beside) if beside else None, sent)
    if own is None:
        own = {
            name: Layer(fresh_rows(layer.rank, layer.a.shape[1], seed, name), torch.zeros_like(layer.b), layer.scale)
            for name, layer in sorted(sent.items())
        }
    return Personal(own, summed([shared, *beside]), None)


def settings_of(plan: Plan, shared: Settings) -> Settings:
    """The shared training's settings, with the personal one's steps and proximal weight."""
    return replace(shared, steps=plan.steps, prox=plan.prox if plan.method == "ditto" else 0.0)


def best_share(losses: Mapping[float, float]) -> float:
    """The share of the own adapter in `s Δ_own + (1 − s) Δ_cluster` with the lowest loss on tuning pictures; half without any.

    Mixtures of a shared and an own model are APFL's (arXiv 2003.13461), which learns the share by gradient; a handful of
    values that are measured need no step size. The lower of equals: a cluster knows more pictures than a client.
    """
    return min(losses, key=lambda share: (losses[share], share)) if losses else 0.5
