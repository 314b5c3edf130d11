"""Shares of the exchange between clusters: rows that sum to one, in closed form."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.interaction import INTERACTIONS
from fedcore.interaction.exchange import none, similarity
from fedcore.seeds import generator


@given(st.sampled_from(sorted(INTERACTIONS)), st.integers(1, 6), st.floats(0, 1), st.floats(0.05, 5))
def test_every_row_sums_to_one_and_takes_nothing_negative(name: str, n: int, own: float, temperature: float) -> None:
    shares = INTERACTIONS[name](torch.randn(n, 8, generator=generator(n)), own=own, temperature=temperature)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(n, dtype=torch.float64))
    assert float(shares.min()) >= 0
    if name == "similarity" and n > 1:
        torch.testing.assert_close(shares.diagonal(), torch.full((n,), own, dtype=torch.float64))


def test_two_clusters_give_each_other_all_that_is_not_their_own() -> None:
    shares = similarity(torch.randn(2, 8, generator=generator(0)), own=0.7, temperature=0.2)
    torch.testing.assert_close(shares, torch.tensor([[0.7, 0.3], [0.3, 0.7]], dtype=torch.float64))


def test_three_clusters_share_by_the_softmax_of_their_cosines() -> None:
    """Unit vectors at 0°, 60° and 90°: cosines 1/2, 0 and √3/2."""
    angles = torch.tensor([0, math.pi / 3, math.pi / 2])
    shares = similarity(torch.stack([angles.cos(), angles.sin()], dim=1), own=0.6, temperature=0.5)
    to_second = 0.4 * math.exp(0.5 / 0.5) / (math.exp(0.5 / 0.5) + math.exp(0))
    to_third = 0.4 * math.exp(math.sqrt(3)) / (math.exp(math.sqrt(3)) + math.exp(1))
    assert shares[0].tolist() == pytest.approx([0.6, to_second, 0.4 - to_second])
    assert shares[1].tolist() == pytest.approx([0.4 - to_third, 0.6, to_third])


def test_one_cluster_and_no_exchange_are_the_identity() -> None:
    assert similarity(torch.ones(1, 3), own=0.2, temperature=0.1).tolist() == [[1.0]]
    assert none(torch.ones(3, 4), own=0.2, temperature=0.1).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_the_length_of_a_centroid_does_not_matter() -> None:
    centroids = torch.randn(4, 8, generator=generator(0))
    longer = centroids * torch.tensor([1.0, 2.0, 5.0, 0.1])[:, None]
    torch.testing.assert_close(
        similarity(longer, own=0.5, temperature=0.3), similarity(centroids, own=0.5, temperature=0.3), rtol=1e-6, atol=1e-6
    )
