"""How sure a comparison is: bootstrap intervals of paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedcore.seeds import derive


@dataclass(frozen=True)
class Interval:
    """A mean and its percentile interval."""

    mean: float
    low: float
    high: float


def paired(mine: Sequence[float], theirs: Sequence[float], *, seed: int, draws: int = 10_000, confidence: float = 0.95) -> Interval:
    """The mean of `mine − theirs`, pair by pair, with its bootstrap percentile interval over pairs (Efron 1979).

    Raises:
        ValueError: not as many of one as of the other, or none.
    """
    differences = np.array([a - b for a, b in zip(mine, theirs, strict=True)])
    if not len(differences):
        raise ValueError("a difference needs at least one pair")
    generator = np.random.Generator(np.random.PCG64(derive(seed, "bootstrap")))
    means = differences[generator.integers(len(differences), size=(draws, len(differences)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(differences.mean()), float(low), float(high))
