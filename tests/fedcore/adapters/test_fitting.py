"""An adapter divided for a client of a given rank: nothing is lost but what is said to be."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.adapters import Split, split, summed
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (9, 7), "x.to_k": (6, 8)}


@given(st.sampled_from(get_args(Split)), st.integers(1, 6), st.integers(1, 6), st.sampled_from([1.0, 0.5, 2.0]))
def test_start_tail_and_what_is_left_out_make_up_the_update(how: Split, have: int, rank: int, scale: float) -> None:
    adapter = random_adapter(SHAPES, have, "whole")
    begun = split(adapter, rank, scale, how, seed=0)
    assert {(layer.rank, layer.scale) for layer in begun.start.values()} == {(rank, scale)}
    whole = summed([begun.start, *([begun.tail] if begun.tail else [])])
    total = sum(float(dense(adapter[n]).square().sum()) for n in SHAPES)
    missing = sum(float((dense(adapter[n]) - dense(whole[n])).square().sum()) for n in SHAPES)
    if how in ("cut", "rest", "fresh", "head+tail") or have <= rank:
        assert missing / total == pytest.approx(begun.discarded, abs=1e-6)
    if how in ("rest", "fresh", "head+tail"):
        assert begun.discarded == 0
    if how in ("cut", "head"):
        assert begun.tail is None


def test_the_rest_is_what_the_best_approximation_leaves_out() -> None:
    adapter = random_adapter(SHAPES, 5, "whole")
    begun = split(adapter, 2, 1.0, "rest", seed=0)
    assert begun.tail is not None
    for name in SHAPES:
        u, s, vt = torch.linalg.svd(dense(adapter[name]), full_matrices=False)
        torch.testing.assert_close(dense(begun.start[name]), (u[:, :2] * s[:2]) @ vt[:2], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(dense(begun.tail[name]), (u[:, 2:] * s[2:]) @ vt[2:], rtol=1e-5, atol=1e-5)


def test_the_head_is_the_first_rows_as_they_are() -> None:
    adapter = random_adapter(SHAPES, 5, "whole")
    begun = split(adapter, 2, 1.0, "head", seed=0)
    for name in SHAPES:
        assert torch.equal(begun.start[name].a, adapter[name].a[:2])
        assert torch.equal(begun.start[name].b, adapter[name].b[:, :2])
    assert 0 < begun.discarded < 1


def test_a_fresh_start_has_no_update_and_another_one_each_time() -> None:
    adapter = random_adapter(SHAPES, 3, "whole")
    first, second = (split(adapter, 2, 1.0, "fresh", seed=seed) for seed in (1, 2))
    assert first.tail == adapter
    assert not any(layer.b.any() for layer in first.start.values())
    assert not torch.equal(first.start["x.to_q"].a, second.start["x.to_q"].a)


def test_an_adapter_of_the_right_rank_is_not_touched() -> None:
    adapter = random_adapter(SHAPES, 3, "whole", scale=0.5)
    assert split(adapter, 3, 0.5, "head", seed=0).start["x.to_q"].a is not None
    for how in ("cut", "head"):
        begun = split(adapter, 3, 0.5, how, seed=0)  # type: ignore[arg-type]
        assert all(torch.equal(begun.start[n].a, adapter[n].a) and torch.equal(begun.start[n].b, adapter[n].b) for n in SHAPES)
