"""Rules for mixed ranks and shifted clients, against dense references written from their papers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.adapters import Adapter
from fedcore.aggregation import AGGREGATIONS
from fedcore.aggregation.lora_fair import RIDGE
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (9, 7), "x.to_k": (8, 12)}
CLIENTS = st.lists(st.tuples(st.integers(1, 5), st.floats(0.1, 3), st.integers(1, 9)), min_size=1, max_size=5)


def test_untrained_clients_weigh_as_they_are_given_under_hetlora() -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 2, i, size=0.0) for i in range(2)]
    made = AGGREGATIONS["hetlora"].combine(adapters, [0.9, 0.1], None, rank=1, energy=1.0).adapter
    torch.testing.assert_close(made["x.to_q"].a, 0.9 * adapters[0]["x.to_q"].a.double() + 0.1 * adapters[1]["x.to_q"].a.double())


@given(CLIENTS, st.integers(1, 8))
def test_components_are_averaged_over_the_clients_that_reach_them(clients: list[tuple[int, float, int]], rank: int) -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, r, i, scale=s) for i, (r, s, _) in enumerate(clients)]
    weights = [n / sum(n for *_, n in clients) for *_, n in clients]
    made = AGGREGATIONS["svd_rank_aware"].combine(adapters, weights, None, rank=rank, energy=1.0).adapter
    for name, size in SHAPES.items():
        want = np.zeros(size)
        for h in range(max(r for r, *_ in clients)):
            reaching = sum(w for w, (r, *_) in zip(weights, clients, strict=True) if r > h)
            for w, (r, *_), adapter in zip(weights, clients, adapters, strict=True):
                if r > h:
                    u, s, vt = np.linalg.svd(dense(adapter[name]).numpy(), full_matrices=False)
                    want += w / reaching * s[h] * np.outer(u[:, h], vt[h])
        u, s, vt = np.linalg.svd(want, full_matrices=False)
        np.testing.assert_allclose(dense(made[name]).numpy(), (u[:, :rank] * s[:rank]) @ vt[:rank], atol=1e-8 * s[0])


def test_with_equal_ranks_the_rank_aware_rule_is_svd() -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 3, i) for i in range(3)]
    aware, plain = (AGGREGATIONS[r].combine(adapters, [0.2, 0.3, 0.5], None, rank=4, energy=1.0).adapter for r in ("svd_rank_aware", "svd"))
    for name in SHAPES:
        torch.testing.assert_close(dense(aware[name]), dense(plain[name]))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_lora_fair_is_the_ridge_solution_in_the_span_of_the_mean_of_a(scale: float) -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 3, i, scale=scale) for i in range(3)]
    weights = [0.2, 0.3, 0.5]
    made = AGGREGATIONS["lora_fair"].combine(adapters, weights, None, rank=1, energy=1.0).adapter
    for name in SHAPES:
        exact = sum(w * dense(x[name]).numpy() for w, x in zip(weights, adapters, strict=True)) / scale
        a = sum(w * x[name].a.double().numpy() for w, x in zip(weights, adapters, strict=True))
        b = sum(w * x[name].b.double().numpy() for w, x in zip(weights, adapters, strict=True))
        ridge = RIDGE * np.diag(a @ a.T).mean()
        want = b + (exact - b @ a) @ a.T @ np.linalg.inv(a @ a.T + ridge * np.eye(3))
        np.testing.assert_allclose(made[name].b.numpy(), want)
        np.testing.assert_allclose(made[name].a.numpy(), a)
        nearest = exact @ np.linalg.pinv(a) @ a  # of all updates with rows in the span of Ā
        assert np.linalg.norm(want @ a - nearest) < 0.1 * np.linalg.norm(b @ a - nearest)
