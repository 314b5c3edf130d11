"""Bootstrap intervals against scipy's and against the normal approximation."""

import numpy as np
import pytest
import scipy.stats

from fedcore.statistics import paired


def test_the_interval_is_scipys_percentile_interval_within_resampling_noise() -> None:
    draw = np.random.default_rng(0)
    mine, theirs = draw.normal(0.6, 0.1, 42), draw.normal(0.62, 0.1, 42)
    found = paired(mine.tolist(), theirs.tolist(), seed=0)
    want = scipy.stats.bootstrap((mine - theirs,), np.mean, n_resamples=10_000, method="percentile", rng=1).confidence_interval
    assert found.mean == pytest.approx((mine - theirs).mean())
    assert (found.low, found.high) == (pytest.approx(want.low, abs=2e-3), pytest.approx(want.high, abs=2e-3))


def test_pairs_that_differ_alike_leave_no_doubt() -> None:
    found = paired([1.0, 2.0, 3.0], [0.5, 1.5, 2.5], seed=0)
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_the_same_seed_gives_the_same_interval_and_odd_ones_are_refused() -> None:
    assert paired([1.0, 0.0], [0.0, 0.5], seed=3) == paired([1.0, 0.0], [0.0, 0.5], seed=3)
    with pytest.raises(ValueError, match="zip"):
        paired([1.0], [], seed=0)
    with pytest.raises(ValueError, match="at least one pair"):
        paired([], [], seed=0)
