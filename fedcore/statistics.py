"""How sure a comparison is: intervals of means, of paired differences, and of the distance between two sets of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.seeds import derive

NORMAL = 1.959964
"""Standard deviations either side of the mean that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float], *, seed: int, draws: int = 10_000) -> Interval:
    """A mean with its bootstrap percentile interval (Efron 1979).

    Raises:
        ValueError: there are no values.
    """
    known = np.asarray(values, dtype=np.float64)
    if not len(known):
        raise ValueError("a mean needs at least one value")
    generator = np.random.Generator(np.random.PCG64(derive(seed, "bootstrap")))
    means = known[generator.integers(len(known), size=(draws, len(known)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(known.mean()), float(low), float(high))


def paired(mine: Sequence[float], theirs: Sequence[float], *, seed: int) -> Interval:
    """The mean of `mine − theirs`, pair by pair, with its interval over pairs.

    Raises:
        ValueError: not as many of one as of the other, or none.
    """
    return bootstrap([a - b for a, b in zip(mine, theirs, strict=True)], seed=seed)


def kernel_distance(made: NDArray[np.float64], real: NDArray[np.float64], *, seed: int, halves: int = 200) -> Interval:
    """Kernel distance of two sets of features, (n, d) and (m, d): KID of Bińkowski et al. 2018 (1801.01401), with its interval.

    The unbiased squared maximum mean discrepancy under the kernel (xᵀy / d + 1)³. The interval is that of the delete-half
    jackknife (Shao and Wu 1989): the distance over random halves of both sets scatters as the whole one does, and no picture
    meets itself as it would in a bootstrap.

    Raises:
        ValueError: fewer than four rows in one of the sets.
    """
    if min(len(made), len(real)) < 4:
        raise ValueError("a kernel distance needs at least four pictures on either side")
    both = np.concatenate([made, real]).astype(np.float64)
    kernel = (both @ both.T / both.shape[1] + 1) ** 3
    mine, theirs = np.arange(len(made)), np.arange(len(made), len(both))
    generator = np.random.Generator(np.random.PCG64(derive(seed, "halves")))
    whole = _discrepancy(kernel, mine, theirs)
    parts = np.array(
        [_discrepancy(kernel, *(generator.permutation(rows)[: len(rows) // 2] for rows in (mine, theirs))) for _ in range(halves)]
    )
    spread = float(np.sqrt(np.mean((parts - whole) ** 2)))
    return Interval(whole, whole - NORMAL * spread, whole + NORMAL * spread)


def _discrepancy(kernel: NDArray[np.float64], x: NDArray[np.int64], y: NDArray[np.int64]) -> float:
    """Unbiased squared discrepancy of the rows `x` and `y` of a common kernel matrix."""

    def within(rows: NDArray[np.int64]) -> float:
        block = kernel[np.ix_(rows, rows)]
        return float(block.sum() - np.trace(block)) / (len(rows) * (len(rows) - 1))

    return within(x) + within(y) - 2 * float(kernel[np.ix_(x, y)].mean())
