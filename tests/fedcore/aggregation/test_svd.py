"""The exact mean by QR and SVD, against the dense weighted mean and its dense SVD."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.adapters import Adapter
from fedcore.aggregation import AGGREGATIONS
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (9, 7), "x.to_k": (30, 6)}
COMBINE = AGGREGATIONS["svd"].combine


def mean(adapters: list[Adapter], weights: list[float], name: str) -> np.ndarray:
    return np.sum([w * dense(a[name]).numpy() for w, a in zip(weights, adapters, strict=True)], axis=0)


@given(st.lists(st.tuples(st.integers(1, 6), st.floats(0.1, 4), st.integers(1, 50)), min_size=1, max_size=4), st.integers(1, 8))
def test_the_result_is_the_best_low_rank_mean_for_any_ranks_and_scales(clients: list[tuple[int, float, int]], rank: int) -> None:
    adapters = [random_adapter(SHAPES, r, i, scale=s) for i, (r, s, _) in enumerate(clients)]
    weights = [n / sum(n for *_, n in clients) for *_, n in clients]
    made = COMBINE(adapters, weights, None, rank=rank, energy=1.0)
    for name in SHAPES:
        exact = mean(adapters, weights, name)
        sigma = np.linalg.svd(exact, compute_uv=False)
        error = np.linalg.norm(exact - dense(made.adapter[name]).numpy())
        assert error == pytest.approx(np.linalg.norm(sigma[rank:]), abs=1e-9 * sigma[0])
        assert made.discarded[name] == pytest.approx((sigma[rank:] ** 2).sum() / (sigma**2).sum(), abs=1e-12)


def test_the_rank_is_the_least_that_keeps_the_energy() -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 3, i) for i in range(3)]
    made = COMBINE(adapters, [0.2, 0.3, 0.5], None, rank=32, energy=0.9)
    for name in SHAPES:
        kept = np.cumsum(np.linalg.svd(mean(adapters, [0.2, 0.3, 0.5], name), compute_uv=False) ** 2)
        kept /= kept[-1]
        assert made.adapter[name].rank == int(np.argmax(kept >= 0.9)) + 1 < 6
        assert made.discarded[name] == pytest.approx(1 - kept[made.adapter[name].rank - 1])
