"""Cluster adapters after an exchange: dense sums, and the form that each way of beginning needs."""

import pytest
import torch

from fedcore.adapters import Adapter, Layer, Split, to_bytes
from fedcore.interaction import exchanged
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (9, 7), "x.to_k": (6, 8)}
ADAPTERS: list[Adapter] = [random_adapter(SHAPES, 4, i) for i in range(3)]
ROWS = torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.0, 0.0, 1.0]], dtype=torch.float64)
WEIGHTS = dict.fromkeys(SHAPES, ROWS)


def want(i: int, name: str, adapters: list[Adapter] = ADAPTERS) -> torch.Tensor:
    return torch.stack([w * dense(a[name]) for w, a in zip(ROWS[i], adapters, strict=True)]).sum(dim=0)


def test_the_cut_is_the_best_approximation_of_the_weighted_sum() -> None:
    made = exchanged(ADAPTERS, WEIGHTS, beside=False, split="cut", head=4, rank=5)[0]
    lost = total = 0.0
    for name in SHAPES:
        u, s, vt = torch.linalg.svd(want(0, name), full_matrices=False)
        torch.testing.assert_close(dense(made.own[name]), (u[:, :5] * s[:5]) @ vt[:5])
        lost, total = lost + float(s[5:].square().sum()), total + float(s.square().sum())
    assert made.discarded == pytest.approx(lost / total)
    assert made.beside is None


def test_a_cluster_that_takes_nothing_keeps_its_bits() -> None:
    for split in ("cut", "rest", "head", "head+tail", "fresh"):
        made = exchanged(ADAPTERS, WEIGHTS, beside=False, split=split, head=4, rank=2)[2]  # type: ignore[arg-type]
        assert to_bytes(made.own) == to_bytes(ADAPTERS[2])


def test_nothing_is_lost_where_clients_start_afresh() -> None:
    made = exchanged(ADAPTERS, WEIGHTS, beside=False, split="fresh", head=4, rank=1)[1]
    for name in SHAPES:
        torch.testing.assert_close(dense(made.own[name]), want(1, name))


def test_the_head_stays_the_own_one_and_the_others_join_the_tail() -> None:
    made = exchanged(ADAPTERS, WEIGHTS, beside=False, split="head+tail", head=2, rank=1)[0]
    for name in SHAPES:
        torch.testing.assert_close(dense(made.own[name]), want(0, name))
        torch.testing.assert_close(made.own[name].a[:2], ADAPTERS[0][name].a[:2].double())
        torch.testing.assert_close(made.own[name].b[:, :2], 0.8 * ADAPTERS[0][name].b[:, :2].double())


@pytest.mark.parametrize("factor", ["a", "b"])
def test_a_factor_that_all_clusters_share_stays_as_it_is(factor: str) -> None:
    first = ADAPTERS[0]
    alike: list[Adapter] = [
        {n: Layer(first[n].a, x.b, 0.5) if factor == "a" else Layer(x.a, first[n].b, 0.5) for n, x in a.items()} for a in ADAPTERS
    ]
    made = exchanged(alike, WEIGHTS, beside=False, split="head", head=4, rank=1)[0]
    for name in SHAPES:
        torch.testing.assert_close(dense(made.own[name]), want(0, name, alike))
        assert torch.equal(getattr(made.own[name], factor), getattr(first[name], factor))


def test_factors_that_differ_are_cut_to_the_clients_rank() -> None:
    made = exchanged(ADAPTERS, WEIGHTS, beside=False, split="head", head=4, rank=1)[0]
    assert {layer.rank for layer in made.own.values()} == {4}


def test_what_stands_beside_is_the_sum_of_the_others_and_the_own_adapter_keeps_its_bits() -> None:
    made = exchanged(ADAPTERS, WEIGHTS, beside=True, split="cut", head=4, rank=8)[0]
    assert to_bytes(made.own) == to_bytes(ADAPTERS[0])
    assert made.beside is not None
    for name in SHAPES:
        torch.testing.assert_close(dense(made.beside[name]), want(0, name) - 0.8 * dense(ADAPTERS[0][name]))


@pytest.mark.parametrize("split", ["cut", "rest", "head", "head+tail", "fresh"])
def test_what_stands_beside_is_the_best_of_its_rank_whatever_clients_make_of_their_own_adapter(split: Split) -> None:
    made = exchanged(ADAPTERS, WEIGHTS, beside=True, split=split, head=4, rank=3)[0]
    assert to_bytes(made.own) == to_bytes(ADAPTERS[0])
    assert made.beside is not None
    for name in SHAPES:
        u, s, v = torch.linalg.svd((want(0, name) - 0.8 * dense(ADAPTERS[0][name])).double())
        torch.testing.assert_close(dense(made.beside[name]).double(), u[:, :3] * s[:3] @ v[:3], rtol=1e-4, atol=1e-5)
