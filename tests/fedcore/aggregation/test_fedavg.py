"""FedIT averages factors: its formula, and the published formula of what it misses."""

import numpy as np
import pytest

from fedcore.aggregation import AGGREGATIONS
from fedcore.errors import AdapterRefused
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (7, 5)}
WEIGHTS = [0.2, 0.3, 0.5]
COMBINE = AGGREGATIONS["fedavg"].combine


@pytest.mark.parametrize("scale", [1.0, 0.5, -2.0])
def test_factors_are_averaged_apart_and_the_error_is_the_covariance_of_the_factors(scale: float) -> None:
    adapters = [random_adapter(SHAPES, 3, i, scale=scale) for i in range(3)]
    a = np.stack([x["x.to_q"].a.double().numpy() for x in adapters])
    b = np.stack([x["x.to_q"].b.double().numpy() for x in adapters])
    mean_a, mean_b = np.average(a, 0, WEIGHTS), np.average(b, 0, WEIGHTS)
    made = COMBINE(adapters, WEIGHTS, None, rank=1, energy=0.5)
    np.testing.assert_allclose(dense(made.adapter["x.to_q"]).numpy(), scale * mean_b @ mean_a)
    exact = sum(w * dense(x["x.to_q"]).numpy() for w, x in zip(WEIGHTS, adapters, strict=True))
    missed = scale * sum(w * (bk - mean_b) @ (ak - mean_a) for w, bk, ak in zip(WEIGHTS, b, a, strict=True))
    np.testing.assert_allclose(exact - scale * mean_b @ mean_a, missed)
    assert np.linalg.norm(missed) > 0.1 * np.linalg.norm(exact)
    assert made.adapter["x.to_q"].scale == scale  # clients go on with these very factors
    assert made.discarded == {"x.to_q": 0.0}


@pytest.mark.parametrize("rule", sorted(name for name, rule in AGGREGATIONS.items() if not rule.mixed_ranks))
def test_mixed_ranks_and_scales_are_refused_with_the_way_out(rule: str) -> None:
    combine, first = AGGREGATIONS[rule].combine, random_adapter(SHAPES, 3, 0)
    with pytest.raises(AdapterRefused, match=r"needs equal ranks, got \[2, 3\]; use 'svd'"):
        combine([first, random_adapter(SHAPES, 2, 1)], [0.5, 0.5], None, rank=4, energy=1.0)
    with pytest.raises(AdapterRefused, match=r"needs equal scales, got \[0.5, 1.0\]"):
        combine([first, random_adapter(SHAPES, 3, 1, scale=0.5)], [0.5, 0.5], None, rank=4, energy=1.0)
