"""FedIT averages factors: its formula, and the published formula of what it misses."""

import numpy as np
import pytest

from fedcore.aggregation.fedavg import fedavg
from fedcore.errors import AdapterRefused
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (7, 5)}
WEIGHTS = [0.2, 0.3, 0.5]
SCALES = (1.0, 0.5, -2.0)


def test_factors_are_averaged_apart_and_the_error_is_the_covariance_of_the_factors() -> None:
    adapters = [random_adapter(SHAPES, 3, i, scale=s) for i, s in enumerate(SCALES)]
    a = np.stack([x["x.to_q"].a.double().numpy() for x in adapters])
    b = np.stack([s * x["x.to_q"].b.double().numpy() for s, x in zip(SCALES, adapters, strict=True)])
    mean_a, mean_b = np.average(a, 0, WEIGHTS), np.average(b, 0, WEIGHTS)
    made = fedavg(adapters, WEIGHTS, rank=1, energy=0.5)
    np.testing.assert_allclose(dense(made.adapter["x.to_q"]).numpy(), mean_b @ mean_a)
    exact = sum(w * dense(x["x.to_q"]).numpy() for w, x in zip(WEIGHTS, adapters, strict=True))
    missed = sum(w * (bk - mean_b) @ (ak - mean_a) for w, bk, ak in zip(WEIGHTS, b, a, strict=True))
    np.testing.assert_allclose(exact - mean_b @ mean_a, missed)
    assert np.linalg.norm(missed) > 0.1 * np.linalg.norm(exact)
    assert made.discarded == {"x.to_q": 0.0}


def test_mixed_ranks_are_refused_with_the_way_out() -> None:
    with pytest.raises(AdapterRefused, match=r"'fedavg' needs equal ranks, got \[2, 3\]; use 'svd'"):
        fedavg([random_adapter(SHAPES, 3, 0), random_adapter(SHAPES, 2, 1)], [0.5, 0.5], rank=4, energy=1.0)
