"""Derived seeds differ by purpose, and the global generator never notices."""

import hashlib
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.seeds import derive, generator, isolated


def test_a_seed_is_the_first_63_bits_of_the_sha256_of_its_purpose() -> None:
    digest = hashlib.sha256(b"7\x1fstr:round\x1fint:2").hexdigest()
    assert derive(7, "round", 2) == int(digest[:16], 16) // 2


@given(st.integers(-(2**70), 2**70), st.lists(st.integers() | st.text("a1é", max_size=3), max_size=3))
def test_seeds_fit_a_generator(seed: int, names: list[int | str]) -> None:
    assert 0 <= derive(seed, *names) < 2**63
    generator(seed, *names)


def test_seeds_differ_by_seed_purpose_order_type_and_length() -> None:
    purposes: list[tuple[str | int, ...]] = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",), ("1",), (1,), ("a", 1), ("a", "1"), ("",)]
    seeds = [derive(s, *p) for s in (0, 1, -1) for p in purposes]
    assert len(set(seeds)) == len(seeds)


def test_generators_of_neighbouring_rounds_share_nothing() -> None:
    x = torch.stack([torch.randn(2000, generator=generator(0, "round", r)) for r in range(3)])
    assert float((torch.corrcoef(x) - torch.eye(3)).abs().max()) < 0.1


@pytest.mark.parametrize("size", [4, -1], ids=["left plainly", "left by an exception"])
def test_inside_isolated_the_global_generator_is_a_derived_one_and_afterwards_as_before(size: int) -> None:
    before = torch.get_rng_state()
    with nullcontext() if size > 0 else pytest.raises(RuntimeError, match="negative"), isolated(3, "purpose"):
        drawn = torch.randn(4)
        torch.zeros(size)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn, torch.randn(4, generator=generator(3, "purpose")))
