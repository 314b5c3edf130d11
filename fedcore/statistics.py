"""How sure a comparison is: intervals of means and of paired differences; and how far two sets of pictures are apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.seeds import derive


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


def kernel_distance(made: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """Kernel distance of two sets of features, (n, d) and (m, d): KID of Bińkowski et al. 2018 (1801.01401).

    The unbiased squared maximum mean discrepancy under the kernel (xᵀy / d + 1)³. It is unbiased for pictures that were made
    independently of each other: those of one model, not those of several together.

    Raises:
        ValueError: fewer than two rows in one of the sets.
    """
    if min(len(made), len(real)) < 2:
        raise ValueError("a kernel distance needs at least two pictures on either side")

    def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        cubed: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1) ** 3
        return cubed

    def within(x: NDArray[np.float64]) -> float:
        block = kernel(x, x)
        return float(block.sum() - np.trace(block)) / (len(x) * (len(x) - 1))

    return within(made) + within(real) - 2 * float(kernel(made, real).mean())
