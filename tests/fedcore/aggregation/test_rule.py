"""Weights and the exact weighted mean; and what every registered rule must keep to."""

from collections.abc import Iterator

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.adapters import Adapter, Layer, to_bytes
from fedcore.aggregation import AGGREGATIONS, ideal, shares_of
from fedcore.aggregation.sums import ProductSum
from fedcore.errors import AdapterRefused
from fedcore.seeds import generator
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (7, 5), "x.to_k": (6, 9)}
RULES = sorted(AGGREGATIONS)


def combined(rule: str, adapters: list[Adapter], weights: list[float], rank: int = 32, energy: float = 1.0) -> dict[str, Layer]:
    return AGGREGATIONS[rule].combine(adapters, weights, None, rank=rank, energy=energy).adapter


def test_weights_are_the_shares_of_the_pictures() -> None:
    assert shares_of([1, 3, 4]) == [0.125, 0.375, 0.5]


@given(st.lists(st.tuples(st.integers(1, 6), st.floats(-4, 4), st.floats(0.01, 1)), min_size=1, max_size=9), st.booleans())
def test_the_ideal_is_the_dense_weighted_mean_for_any_ranks_scales_and_dtypes(clients: list[tuple[int, float, float]], half: bool) -> None:
    """Nine clients of rank 6 have more rows than the layers are large: sums turn dense on the way."""
    adapters: list[Adapter] = [random_adapter(SHAPES, r, i, scale=s) for i, (r, s, _) in enumerate(clients)]
    if half:
        adapters = [{n: Layer(x.a.bfloat16(), x.b.bfloat16(), x.scale) for n, x in adapter.items()} for adapter in adapters]
    weights = [w for *_, w in clients]
    made = ideal(adapters, weights)
    for name in SHAPES:
        want = torch.stack([w * dense(a[name]) for w, a in zip(weights, adapters, strict=True)]).sum(dim=0)
        torch.testing.assert_close(dense(made[name]), want)


def test_what_stood_frozen_beside_the_clients_belongs_to_the_ideal() -> None:
    adapters, frozen = [random_adapter(SHAPES, 2, i) for i in range(2)], random_adapter(SHAPES, 3, "frozen")
    made = ideal(adapters, [0.4, 0.6], frozen)
    for name in SHAPES:
        want = 0.4 * dense(adapters[0][name]) + 0.6 * dense(adapters[1][name]) + dense(frozen[name])
        torch.testing.assert_close(dense(made[name]), want)


@pytest.mark.parametrize("rule", [rule for rule in RULES if AGGREGATIONS[rule].split in ("rest", "head+tail", "fresh")])
def test_no_rule_that_leaves_something_beside_its_clients_loses_it(rule: str) -> None:
    adapters, frozen = [random_adapter(SHAPES, 2, i) for i in range(2)], random_adapter(SHAPES, 3, "frozen")
    with_it, without = (AGGREGATIONS[rule].combine(adapters, [0.4, 0.6], of, rank=32, energy=1.0).adapter for of in (frozen, None))
    for name in SHAPES:
        torch.testing.assert_close(dense(with_it[name]), dense(without[name]) + dense(frozen[name]))


@pytest.mark.parametrize("rule", RULES)
def test_one_client_alone_gets_its_own_update_back(rule: str) -> None:
    adapter = random_adapter(SHAPES, 3, "alone", scale=0.5)
    made = combined(rule, [adapter], [1.0], rank=3)
    for name in SHAPES:
        torch.testing.assert_close(dense(made[name]), dense(adapter[name]))


@pytest.mark.parametrize("rule", RULES)
def test_inputs_are_left_as_they_were(rule: str) -> None:
    adapters = [random_adapter(SHAPES, 3, i, scale=0.5) for i in range(3)]
    before = [to_bytes(a) for a in adapters]
    combined(rule, adapters, [0.2, 0.3, 0.5], rank=4, energy=0.9)
    assert [to_bytes(a) for a in adapters] == before


@pytest.mark.parametrize("rule", RULES)
def test_a_layer_that_one_client_lacks_is_refused_by_name(rule: str) -> None:
    whole = random_adapter(SHAPES, 3, 0)
    for adapters in ([whole, {"x.to_q": whole["x.to_q"]}], [{"x.to_q": whole["x.to_q"]}, whole]):
        with pytest.raises(AdapterRefused, match=r"'x\.to_k' is not in all of them"):
            combined(rule, list(adapters), [0.5, 0.5])


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_layers_and_repetition_change_no_bit(rule: str) -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 3, i) for i in range(4)]
    weights = [0.1, 0.2, 0.3, 0.4]
    first = to_bytes(combined(rule, adapters, weights, rank=5))
    assert to_bytes(combined(rule, adapters, weights, rank=5)) == first
    assert to_bytes(combined(rule, [dict(reversed(a.items())) for a in adapters], weights, rank=5)) == first


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_clients_and_duplicates_change_nothing_but_rounding(rule: str) -> None:
    """The same adapter twice with half the weight each is that adapter with the whole weight."""
    adapters: list[Adapter] = [random_adapter(SHAPES, 3, i) for i in range(3)]
    made = combined(rule, adapters, [0.1, 0.3, 0.6])
    turned = combined(rule, adapters[::-1], [0.6, 0.3, 0.1])
    for name in SHAPES:
        torch.testing.assert_close(dense(made[name]), dense(turned[name]))
    twice = combined(rule, [*adapters, adapters[2]], [0.1, 0.3, 0.2, 0.4])
    for name in SHAPES:
        torch.testing.assert_close(dense(made[name]), dense(twice[name]))


@pytest.mark.parametrize("rule", RULES)
def test_weights_must_be_as_many_as_clients(rule: str) -> None:
    with pytest.raises(ValueError, match="zip"):
        combined(rule, [random_adapter(SHAPES, 3, 0)], [0.5, 0.5])


@pytest.mark.parametrize("rule", RULES)
def test_a_thousand_clients_are_aggregated_in_flat_memory(rule: str) -> None:
    shapes, process, used = {f"{i}.to_q": (192, 256) for i in range(4)}, psutil.Process(), dict[int, int]()

    def arriving() -> Iterator[Adapter]:
        for i in range(1000):
            yield {name: Layer(torch.full((16, shape[1]), i / 1000), torch.ones(shape[0], 16)) for name, shape in shapes.items()}
            used[i] = process.memory_info().rss

    AGGREGATIONS[rule].combine(arriving(), [0.001] * 1000, None, rank=8, energy=1.0)
    the_second_half = 500 * 4 * 16 * (192 + 256) * 4
    assert max(used.values()) - max(used[i] for i in range(500)) < 0.2 * the_second_half


def test_a_long_sum_is_as_exact_as_the_dense_one_and_never_larger_than_the_layer() -> None:
    total, want = ProductSum(), torch.zeros(6, 9, dtype=torch.float64)
    for i in range(200):
        draw = generator(i, "long")
        layer = Layer(torch.randn(3, 9, generator=draw), torch.randn(6, 3, generator=draw), 0.5)
        total.add(layer, 1 / (i + 1))
        want += dense(layer) / (i + 1)
    torch.testing.assert_close(dense(total.layer()), want, rtol=1e-12, atol=1e-12)
    assert total.layer().rank == 6
