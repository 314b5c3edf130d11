"""Every rule against its formula, written out with dense float64 matrices: any clients, ranks, scales, dtypes and layouts."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedcore.adapters import Adapter, Layer, split
from fedcore.aggregation import AGGREGATIONS
from fedcore.aggregation.lora_fair import RIDGE
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (9, 7), "x.conv1": (6, 4 * 3 * 3)}
"""A linear layer, and a 3×3 convolution of four channels."""

Parts = Sequence[tuple[float, Layer]]


def exact(parts: Parts) -> Tensor:
    """`Σ p_k Δ_k`."""
    return torch.stack([p * dense(layer) for p, layer in parts]).sum(dim=0)


def factors(parts: Parts) -> tuple[Tensor, Tensor, float]:
    """`Σ p_k A_k`, `Σ p_k B_k` and the scale."""
    a = torch.stack([p * layer.a.double() for p, layer in parts]).sum(dim=0)
    b = torch.stack([p * layer.b.double() for p, layer in parts]).sum(dim=0)
    return a, b, parts[0][1].scale


def of_factors(parts: Parts) -> Tensor:
    """`s B̄ Ā`."""
    a, b, scale = factors(parts)
    return scale * b @ a


def best(parts: Parts) -> Tensor:
    """The nearest to the exact mean of rank 2 (Eckart and Young)."""
    u, s, vt = torch.linalg.svd(exact(parts), full_matrices=False)
    return (u[:, :2] * s[:2]) @ vt[:2]


def corrected(parts: Parts) -> Tensor:
    """`s B' Ā`, where B' solves the ridge regression of `D*/s` on Ā that begins from B̄."""
    a, b, scale = factors(parts)
    ridge = RIDGE * (a @ a.T).diagonal().mean() * torch.eye(len(a), dtype=torch.float64)
    step = (exact(parts) / scale - b @ a) @ a.T @ torch.linalg.inv(a @ a.T + ridge)
    return scale * (b + step) @ a


def by_norm(parts: Parts) -> Tensor:
    """Padded to the largest rank; the weights are made below, over all layers."""
    rank = max(layer.rank for _, layer in parts)
    a, b = torch.zeros(rank, parts[0][1].a.shape[1], dtype=torch.float64), torch.zeros(len(parts[0][1].b), rank, dtype=torch.float64)
    for q, layer in parts:
        a[: layer.rank] += q * layer.a.double()
        b[:, : layer.rank] += q * layer.scale * layer.b.double()
    return b @ a


REFERENCES: dict[str, Callable[[Parts], Tensor]] = {
    "fedavg": of_factors, "svd": best, "svd_rest": best, "stack": exact, "fedex": exact, "lora_fair": corrected, "hetlora": by_norm,
}  # fmt: skip
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@st.composite
def clients(draw: st.DrawFn, mixed: bool) -> tuple[list[Adapter], list[float]]:
    """Adapters of up to five clients, of one rank and scale unless `mixed`, and their weights, which sum to one."""
    n, rank, scale = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.sampled_from([0.25, 1.0, 3.0]))
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    made: list[Adapter] = []
    for i in range(n):
        r, s = (draw(st.integers(1, 4)), draw(st.sampled_from([0.5, 1.0, 2.0]))) if mixed else (rank, scale)
        one = random_adapter(SHAPES, r, i, draw(st.integers(0, 99)), scale=s)
        made.append({name: replace(layer, a=layer.a.to(dtype), b=layer.b.to(dtype)) for name, layer in one.items()})
    counts = [draw(st.integers(1, 9)) for _ in range(n)]
    return made, [c / sum(counts) for c in counts]


def check(rule: str, adapters: list[Adapter], weights: list[float]) -> None:
    made = AGGREGATIONS[rule].combine(adapters, weights, None, rank=2, energy=1.0).adapter
    norms = [sum(float(dense(a[n]).square().sum()) for n in SHAPES) ** 0.5 for a in adapters]
    total = sum(p * norm for p, norm in zip(weights, norms, strict=True))
    for name in SHAPES:
        by = [p * norm / total for p, norm in zip(weights, norms, strict=True)] if rule == "hetlora" else weights
        want = REFERENCES[rule]([(p, a[name]) for p, a in zip(by, adapters, strict=True)])
        torch.testing.assert_close(dense(made[name]), want, rtol=1e-8, atol=1e-8 * float(want.norm()))


@pytest.mark.parametrize("rule", sorted(REFERENCES))
@given(given_to=clients(mixed=False))
def test_equal_ranks(rule: str, given_to: tuple[list[Adapter], list[float]]) -> None:
    check(rule, *given_to)


@pytest.mark.parametrize("rule", sorted(r for r in REFERENCES if AGGREGATIONS[r].mixed_ranks))
@given(given_to=clients(mixed=True))
def test_mixed_ranks_and_scales(rule: str, given_to: tuple[list[Adapter], list[float]]) -> None:
    check(rule, *given_to)


@pytest.mark.parametrize(("rule", "common"), [("ffa", "a"), ("rolora", "a"), ("rolora", "b")])
@given(given_to=clients(mixed=False))
def test_with_one_factor_in_common_the_mean_is_exact(rule: str, common: str, given_to: tuple[list[Adapter], list[float]]) -> None:
    adapters, weights = given_to
    same = [{n: replace(layer, **{common: getattr(adapters[0][n], common)}) for n, layer in a.items()} for a in adapters]
    made = AGGREGATIONS[rule].combine(same, weights, None, rank=2, energy=1.0).adapter
    for name in SHAPES:
        torch.testing.assert_close(dense(made[name]), exact([(p, a[name]) for p, a in zip(weights, same, strict=True)]))


@given(given_to=clients(mixed=False))
def test_fedsa_shares_the_mean_of_a(given_to: tuple[list[Adapter], list[float]]) -> None:
    adapters, weights = given_to
    made = AGGREGATIONS["fedsa"].combine(adapters, weights, None, rank=2, energy=1.0).adapter
    for name in SHAPES:
        a, _, _ = factors([(p, x[name]) for p, x in zip(weights, adapters, strict=True)])
        torch.testing.assert_close(made[name].a, a)


@pytest.mark.parametrize("rule", ["fedex", "hetlora"])
@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_clients_go_on_with_the_very_factors_round_after_round_whatever_the_scale(rule: str, scale: float) -> None:
    """Nobody trains: nothing may move, and no factor may grow while the other shrinks."""
    begun = random_adapter(SHAPES, 3, "begun", scale=scale)
    now: Adapter = begun
    for _ in range(4):
        made = AGGREGATIONS[rule].combine([now, now], [0.5, 0.5], None, rank=3, energy=1.0).adapter
        now = split(made, 3, scale, AGGREGATIONS[rule].split, seed=0).start
    for name, layer in begun.items():
        torch.testing.assert_close(now[name].a, layer.a)
        torch.testing.assert_close(now[name].b, layer.b)
