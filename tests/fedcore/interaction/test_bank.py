"""The global bank: the router's weights in closed form, and mixtures against dense sums."""

import math

import pytest
import torch
from torch import Tensor

from fedcore.adapters import cut
from fedcore.errors import AdapterRefused
from fedcore.interaction import Bank, mixed, route
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (9, 7), "x.to_k": (6, 8)}
ADAPTERS = {7: random_adapter(SHAPES, 2, 7), 2: random_adapter(SHAPES, 3, 2, scale=0.5), 5: random_adapter(SHAPES, 1, 5)}
WEIGHTS = {2: 0.5, 5: 0.2, 7: 0.3}


def sums() -> dict[str, Tensor]:
    """The dense weighted sum of every layer."""
    return {name: torch.stack([w * dense(ADAPTERS[i][name]) for i, w in WEIGHTS.items()]).sum(dim=0) for name in SHAPES}


def test_the_router_weighs_clusters_by_the_softmax_of_cosines_in_id_order() -> None:
    """Cosines of a wish along the first axis with the centroids of 2, 5 and 7: 1, 0 and −1."""
    bank = Bank(ADAPTERS, torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), temperature=0.5)
    total = math.exp(2) + 1 + math.exp(-2)
    want = {2: math.exp(2) / total, 5: 1 / total, 7: math.exp(-2) / total}
    assert route(bank, torch.tensor([3.0, 0.0])) == pytest.approx(want)
    assert sum(route(bank, torch.tensor([0.3, -2.0])).values()) == pytest.approx(1)


def test_a_mixture_is_the_dense_weighted_sum() -> None:
    made = mixed(ADAPTERS, WEIGHTS)
    for name, want in sums().items():
        torch.testing.assert_close(dense(made[name]), want)
        assert made[name].rank == 6


def test_a_mixture_cut_to_a_rank_is_the_best_one_of_that_rank() -> None:
    made, discarded = cut(mixed(ADAPTERS, WEIGHTS), 2)
    assert 0 < discarded < 1
    for name, want in sums().items():
        u, s, vt = torch.linalg.svd(want, full_matrices=False)
        torch.testing.assert_close(dense(made[name]), (u[:, :2] * s[:2]) @ vt[:2])


def test_a_cluster_of_weight_zero_takes_no_part() -> None:
    broken = {**ADAPTERS, 5: {"other": ADAPTERS[5]["x.to_q"]}}
    assert mixed(broken, {2: 1.0, 5: 0.0})["x.to_q"].rank == 3
    with pytest.raises(AdapterRefused, match="different layers"):
        mixed(broken, WEIGHTS)
