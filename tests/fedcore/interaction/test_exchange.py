"""Shares of the exchange between clusters, in closed form."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedcore.adapters import Adapter, Layer
from fedcore.interaction import INTERACTIONS
from fedcore.seeds import generator
from tests.tiny import dense, random_adapter

SHAPES = {"down_blocks.0.a.to_q": (5, 4), "down_blocks.0.b.to_k": (6, 4), "mid_block.a.to_q": (4, 4)}


def adapters(n: int) -> list[Adapter]:
    return [random_adapter(SHAPES, 2, i) for i in range(n)]


def shares(name: str, centroids: Tensor, *, own: float = 0.7, temperature: float = 0.2, of: list[Adapter] | None = None) -> Tensor:
    """Weights of the first layer."""
    weights = INTERACTIONS[name].weigh(centroids, of or adapters(len(centroids)), own=own, temperature=temperature)
    assert set(weights) == set(SHAPES)
    return weights["down_blocks.0.a.to_q"]


@given(st.sampled_from(sorted(INTERACTIONS)), st.integers(1, 6), st.floats(0, 1), st.floats(0.05, 5))
def test_rows_sum_to_one_or_keep_the_whole_own_adapter_and_take_nothing_negative(name: str, n: int, own: float, temperature: float) -> None:
    found = shares(name, torch.randn(n, 8, generator=generator(n)), own=own, temperature=temperature)
    whole = 2.0 - own if INTERACTIONS[name].beside and n > 1 else 1.0
    torch.testing.assert_close(found.sum(dim=1), torch.full((n,), whole, dtype=torch.float64))
    assert float(found.min()) >= 0
    if name in ("similarity", "attention") and n > 1:
        torch.testing.assert_close(found.diagonal(), torch.full((n,), own, dtype=torch.float64))


def test_two_clusters_give_each_other_all_that_is_not_their_own() -> None:
    want = torch.tensor([[0.7, 0.3], [0.3, 0.7]], dtype=torch.float64)
    for name in ("similarity", "attention"):
        torch.testing.assert_close(shares(name, torch.randn(2, 8, generator=generator(0))), want)


def test_three_clusters_share_by_the_softmax_of_their_cosines() -> None:
    """Unit vectors at 0°, 60° and 90°: cosines 1/2, 0 and √3/2."""
    angles = torch.tensor([0, math.pi / 3, math.pi / 2])
    found = shares("similarity", torch.stack([angles.cos(), angles.sin()], dim=1), own=0.6, temperature=0.5)
    to_second = 0.4 * math.exp(0.5 / 0.5) / (math.exp(0.5 / 0.5) + math.exp(0))
    to_third = 0.4 * math.exp(math.sqrt(3)) / (math.exp(math.sqrt(3)) + math.exp(1))
    assert found[0].tolist() == pytest.approx([0.6, to_second, 0.4 - to_second])
    assert found[1].tolist() == pytest.approx([0.4 - to_third, 0.6, to_third])


def test_attention_is_the_softmax_of_the_adapters_cosines_block_by_block() -> None:
    three = adapters(3)
    weights = INTERACTIONS["attention"].weigh(torch.ones(3, 2), three, own=0.6, temperature=0.3)
    for block in ("down_blocks.0", "mid_block.a"):
        names = [n for n in SHAPES if n.startswith(block)]
        flat = torch.stack([torch.cat([dense(a[n]).flatten() for n in names]) for a in three])
        cosines = torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=2)
        first = torch.exp(cosines[0, 1] / 0.3) / (torch.exp(cosines[0, 1] / 0.3) + torch.exp(cosines[0, 2] / 0.3))
        for name in names:
            assert float(weights[name][0, 1]) == pytest.approx(0.4 * float(first))


def test_attention_does_not_see_how_an_update_is_factored() -> None:
    three = adapters(3)
    turn = torch.tensor([[2.0, 1.0], [0.5, 3.0]], dtype=torch.float64)
    turned: list[Adapter] = [{n: Layer(turn.inverse() @ x.a.double(), x.b.double() @ turn, x.scale) for n, x in a.items()} for a in three]
    for first, second in zip(*(shares("attention", torch.ones(3, 2), of=of) for of in (three, turned)), strict=True):
        torch.testing.assert_close(first, second)


def test_the_rest_of_the_world_is_the_mean_of_the_others() -> None:
    found = shares("rest_of_the_world", torch.ones(3, 4), own=0.7)
    torch.testing.assert_close(found, torch.tensor([[1, 0.15, 0.15], [0.15, 1, 0.15], [0.15, 0.15, 1]], dtype=torch.float64))


def test_one_cluster_and_no_exchange_are_the_identity() -> None:
    for name in INTERACTIONS:
        assert shares(name, torch.ones(1, 3), own=0.2).tolist() == [[1.0]]
    assert shares("none", torch.ones(3, 4), own=0.2).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_the_length_of_a_centroid_does_not_matter() -> None:
    centroids = torch.randn(4, 8, generator=generator(0))
    longer = centroids * torch.tensor([1.0, 2.0, 5.0, 0.1])[:, None]
    torch.testing.assert_close(shares("similarity", longer), shares("similarity", centroids), rtol=1e-6, atol=1e-6)
