"""Intervals against scipy's, the kernel distance against its definition."""

import numpy as np
import pytest
import scipy.stats

from fedcore.statistics import bootstrap, kernel_distance, paired


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
    with pytest.raises(ValueError, match="at least one value"):
        paired([], [], seed=0)


def test_a_mean_lies_within_its_interval() -> None:
    found = bootstrap([0.0, 1.0, 1.0, 0.0], seed=0)
    assert (found.mean, found.low < 0.5 < found.high) == (0.5, True)


def test_the_kernel_distance_is_its_definition_summed_pair_by_pair() -> None:
    draw = np.random.default_rng(1)
    made, real = draw.normal(size=(6, 3)), draw.normal(0.5, size=(5, 3))

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    def within(rows: np.ndarray) -> float:
        return float(np.mean([kernel(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]))

    want = within(made) + within(real) - 2 * np.mean([kernel(a, b) for a in made for b in real])
    assert kernel_distance(made, real) == pytest.approx(want)


def test_equal_laws_are_at_distance_nought_on_average() -> None:
    draw = np.random.default_rng(4)
    found = np.array([kernel_distance(draw.normal(size=(12, 4)), draw.normal(size=(60, 4))) for _ in range(400)])
    assert abs(found.mean()) < 4 * found.std() / 400**0.5


def test_pictures_of_another_kind_are_farther_away() -> None:
    draw = np.random.default_rng(3)
    real = draw.normal(size=(40, 4))
    near, far = (kernel_distance(draw.normal(shift, size=(40, 4)), real) for shift in (0.2, 1.0))
    assert near < far
    with pytest.raises(ValueError, match="two pictures"):
        kernel_distance(real[:1], real)
