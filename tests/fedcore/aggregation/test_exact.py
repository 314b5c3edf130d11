"""Rules that lose nothing: against the dense weighted mean."""

import pytest
import torch

from fedcore.adapters import Adapter, Layer, split
from fedcore.aggregation import AGGREGATIONS
from fedcore.aggregation.one_factor import in_turn
from tests.tiny import dense, random_adapter, random_layer

SHAPES = {"x.to_q": (9, 7), "x.conv1": (12, 27)}
WEIGHTS = [0.2, 0.3, 0.5]


def mean(adapters: list[Adapter], name: str) -> torch.Tensor:
    return torch.stack([w * dense(a[name]) for w, a in zip(WEIGHTS, adapters, strict=True)]).sum(dim=0)


@pytest.mark.parametrize("rule", ["stack", "fedex"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("with_frozen", [True, False])
def test_stacking_and_the_residual_give_the_exact_mean(rule: str, scale: float, with_frozen: bool) -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 2, i, scale=scale) for i in range(3)]
    frozen = random_adapter(SHAPES, 2, "frozen") if with_frozen else None
    made = AGGREGATIONS[rule].combine(adapters, WEIGHTS, frozen, rank=1, energy=0.5)
    for name, size in SHAPES.items():
        want = mean(adapters, name) + (dense(frozen[name]) if frozen else 0)
        torch.testing.assert_close(dense(made.adapter[name]), want)
        assert made.adapter[name].rank <= min(size) + (2 if rule == "fedex" else 0)


def test_mixed_ranks_stack_exactly() -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, r, r, scale=s) for r, s in ((1, 4.0), (3, 0.5), (5, -1.0))]
    made = AGGREGATIONS["stack"].combine(adapters, WEIGHTS, None, rank=1, energy=0.5)
    for name in SHAPES:
        torch.testing.assert_close(dense(made.adapter[name]), mean(adapters, name))


def test_fedex_clients_begin_from_the_means_with_the_residual_frozen_beside_them() -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 2, i) for i in range(3)]
    made = AGGREGATIONS["fedex"].combine(adapters, WEIGHTS, None, rank=1, energy=0.5).adapter
    means = AGGREGATIONS["fedavg"].combine(adapters, WEIGHTS, None, rank=1, energy=0.5).adapter
    begun = split(made, 2, 1.0, AGGREGATIONS["fedex"].split, seed=0)
    assert begun.tail is not None
    for name in SHAPES:
        torch.testing.assert_close(begun.start[name].a.double(), means[name].a, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(dense(begun.tail[name]), mean(adapters, name) - dense(means[name]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rule", "factor"), [("ffa", "a"), ("rolora", "b")])
def test_where_one_factor_is_common_the_mean_of_the_other_is_exact_and_the_common_one_keeps_its_bits(rule: str, factor: str) -> None:
    first = random_adapter(SHAPES, 3, 0, scale=0.5)
    adapters: list[Adapter] = []
    for i in range(3):
        own = random_adapter(SHAPES, 3, i, scale=0.5)
        adapters.append({n: Layer(first[n].a, own[n].b, 0.5) if factor == "a" else Layer(own[n].a, first[n].b, 0.5) for n in SHAPES})
    made = AGGREGATIONS[rule].combine(adapters, WEIGHTS, None, rank=1, energy=0.5)
    for name in SHAPES:
        torch.testing.assert_close(dense(made.adapter[name]), mean(adapters, name))
        assert torch.equal(getattr(made.adapter[name], factor).float(), getattr(first[name], factor))
        assert made.discarded[name] == 0


def test_clients_that_have_neither_factor_in_common_get_the_best_mean_of_their_rank() -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 3, i) for i in range(3)]
    made = AGGREGATIONS["ffa"].combine(adapters, WEIGHTS, None, rank=1, energy=0.5)
    for name in SHAPES:
        u, s, vt = torch.linalg.svd(mean(adapters, name), full_matrices=False)
        torch.testing.assert_close(dense(made.adapter[name]), (u[:, :3] * s[:3]) @ vt[:3])
        assert made.discarded[name] == pytest.approx(float(s[3:].square().sum() / s.square().sum()))


def test_what_is_trained_and_handed_over_in_each_round() -> None:
    assert [in_turn(n) for n in (1, 2, 3)] == ["b", "a", "b"]
    assert [AGGREGATIONS["rolora"].handed_over(n) for n in (1, 2)] == ["b", "a"]
    assert AGGREGATIONS["ffa"].handed_over(7) == "b"
    assert (AGGREGATIONS["fedsa"].trains(3), AGGREGATIONS["fedsa"].handed_over(3)) == ("ab", "a")
    assert AGGREGATIONS["svd"].handed_over(3) is None


def test_fedsa_averages_a_and_has_no_update_where_b_stays_away() -> None:
    layers = [random_layer(9, 7, 3, i) for i in range(3)]
    made = (
        AGGREGATIONS["fedsa"]
        .combine([{"x": Layer(x.a, torch.zeros(9, 3))} for x in layers], WEIGHTS, None, rank=1, energy=1.0)
        .adapter["x"]
    )
    want = sum(w * x.a.double() for w, x in zip(WEIGHTS, layers, strict=True))
    torch.testing.assert_close(made.a, torch.as_tensor(want))
    assert not made.b.any()
