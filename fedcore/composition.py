"""Several adapters at once: what each step of a picture is predicted with. A way is one function and a line in `COMPOSITIONS`."""

from collections.abc import Callable, Sequence
from typing import Protocol

from fedcore.adapters import Adapter, summed

Parts = Sequence[tuple[float, Adapter]]
"""Adapters with their weights, which sum to one; none: the plain base."""


class Composition(Protocol):
    """From the adapters to what step i (from 0) is predicted with: the weighted sum of the predictions with each adapter alone."""

    def __call__(self, parts: Parts) -> Callable[[int], Parts]:
        """The plan; the same objects stand for the same adapters, so that none is loaded twice in a row."""


def weighted_sum(parts: Parts) -> Callable[[int], Parts]:
    """`W + Σ w_i Δ_i`: exact, one pass a step."""
    one = [(1.0, summed([adapter for _, adapter in parts], [weight for weight, _ in parts]))] if parts else []
    return lambda _: one


STRETCH = 2
"""Steps for which one adapter of a switch is on."""


def switch(parts: Parts) -> Callable[[int], Parts]:
    """LoRA-Switch (arXiv 2402.16843): one adapter after the other, for `STRETCH` steps each, as often as it weighs; one pass a step."""

    def on(step: int) -> Parts:
        turns, chosen = [0] * len(parts), 0
        if not parts:
            return []
        for turn in range(1, step // STRETCH + 2):
            chosen = max(range(len(parts)), key=lambda i: (parts[i][0] * turn - turns[i], -i))
            turns[chosen] += 1
        return [(1.0, parts[chosen][1])]

    return on


def composite(parts: Parts) -> Callable[[int], Parts]:
    """LoRA-Composite (arXiv 2402.16843): `Σ w_i [ε_i(∅) + g (ε_i(c) − ε_i(∅))]`; as many passes a step as adapters."""
    return lambda _: parts


COMPOSITIONS: dict[str, Composition] = {"sum": weighted_sum, "switch": switch, "composite": composite}
