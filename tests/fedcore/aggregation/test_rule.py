"""Weights and the exact weighted mean; and what every registered rule must keep to."""

import pytest
import torch

from fedcore.adapters import to_bytes
from fedcore.aggregation import AGGREGATIONS, ideal, normalised
from fedcore.errors import AdapterRefused
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (7, 5), "x.to_k": (6, 9)}
RULES = sorted(AGGREGATIONS)


def test_weights_are_the_shares_of_the_pictures() -> None:
    assert normalised([1, 3, 4]) == [0.125, 0.375, 0.5]


def test_the_ideal_is_the_dense_weighted_mean_for_mixed_ranks_and_scales() -> None:
    adapters = [random_adapter(SHAPES, r, r, scale=s) for r, s in ((1, 4.0), (3, 0.5), (8, -1.0))]
    made = ideal(adapters, [0.2, 0.3, 0.5])
    for name in SHAPES:
        want = 0.2 * dense(adapters[0][name]) + 0.3 * dense(adapters[1][name]) + 0.5 * dense(adapters[2][name])
        torch.testing.assert_close(dense(made[name]), want)


@pytest.mark.parametrize("rule", RULES)
def test_one_client_alone_gets_its_own_update_back(rule: str) -> None:
    adapter = random_adapter(SHAPES, 3, "alone", scale=0.5)
    made = AGGREGATIONS[rule]([adapter], [1.0], rank=3, energy=1.0)
    for name in SHAPES:
        torch.testing.assert_close(dense(made.adapter[name]), dense(adapter[name]))
    assert made.discarded == pytest.approx(dict.fromkeys(SHAPES, 0.0), abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_inputs_are_left_as_they_were(rule: str) -> None:
    adapters = [random_adapter(SHAPES, 3, i, scale=0.5) for i in range(3)]
    before = [to_bytes(a) for a in adapters]
    AGGREGATIONS[rule](adapters, [0.2, 0.3, 0.5], rank=4, energy=0.9)
    assert [to_bytes(a) for a in adapters] == before


@pytest.mark.parametrize("rule", RULES)
def test_a_layer_that_one_client_lacks_is_refused_by_name(rule: str) -> None:
    whole = random_adapter(SHAPES, 3, 0)
    for adapters in ([whole, {"x.to_q": whole["x.to_q"]}], [{"x.to_q": whole["x.to_q"]}, whole]):
        with pytest.raises(AdapterRefused, match=r"'x\.to_k' is not in all of them"):
            AGGREGATIONS[rule](adapters, [0.5, 0.5], rank=4, energy=1.0)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_layers_and_repetition_change_no_bit(rule: str) -> None:
    adapters = [random_adapter(SHAPES, 3, i) for i in range(4)]
    weights = [0.1, 0.2, 0.3, 0.4]
    first = to_bytes(AGGREGATIONS[rule](adapters, weights, rank=5, energy=1.0).adapter)
    assert to_bytes(AGGREGATIONS[rule](adapters, weights, rank=5, energy=1.0).adapter) == first
    shuffled = [dict(reversed(a.items())) for a in adapters]
    assert to_bytes(AGGREGATIONS[rule](shuffled, weights, rank=5, energy=1.0).adapter) == first


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_clients_changes_nothing_but_rounding(rule: str) -> None:
    adapters = [random_adapter(SHAPES, 3, i) for i in range(3)]
    made = AGGREGATIONS[rule](adapters, [0.1, 0.3, 0.6], rank=32, energy=1.0).adapter
    turned = AGGREGATIONS[rule](adapters[::-1], [0.6, 0.3, 0.1], rank=32, energy=1.0).adapter
    for name in SHAPES:
        torch.testing.assert_close(dense(made[name]), dense(turned[name]))


@pytest.mark.parametrize("rule", RULES)
def test_weights_must_be_as_many_as_clients(rule: str) -> None:
    with pytest.raises(ValueError, match="zip"):
        AGGREGATIONS[rule]([random_adapter(SHAPES, 3, 0)], [0.5, 0.5], rank=4, energy=1.0)
