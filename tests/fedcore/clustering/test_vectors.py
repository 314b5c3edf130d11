"""What clients are grouped by: Gram matrices of updates against dense ones, and vectors with the same cosines."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import KernelPCA

from fedcore.adapters import Adapter, Layer
from fedcore.clustering import cosines, embedded, gram, remembered, seen, unit, vectors
from fedcore.clustering.vectors import BLOCK, DIMS
from fedcore.seeds import generator
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (9, 7), "x.conv": (6, 27)}
CLIENTS = st.lists(st.tuples(st.integers(1, 5), st.floats(-3, 3).filter(lambda s: abs(s) > 0.01)), min_size=1, max_size=6)


def flat(adapters: list[Adapter]) -> np.ndarray:
    return np.stack([np.concatenate([dense(a[n]).flatten().numpy() for n in sorted(SHAPES)]) for a in adapters])


@given(CLIENTS)
def test_the_gram_matrix_is_that_of_the_dense_updates(clients: list[tuple[int, float]]) -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, r, i, scale=s) for i, (r, s) in enumerate(clients)]
    vectors = flat(adapters)
    np.testing.assert_allclose(gram(adapters), vectors @ vectors.T, rtol=1e-9, atol=1e-9)


def test_stripes_of_rows_add_up() -> None:
    adapters: list[Adapter] = [random_adapter({"x": (3, 4)}, 2, i) for i in range(BLOCK // 2 + 40)]
    vectors = np.stack([dense(a["x"]).flatten().numpy() for a in adapters])
    np.testing.assert_allclose(gram(adapters), vectors @ vectors.T, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 1000))
def test_it_does_not_see_how_an_update_is_factored(seed: int) -> None:
    """(B M)(M⁻¹ A): factor norms can be faked, the update's products cannot."""
    adapters: list[Adapter] = [random_adapter(SHAPES, 3, i) for i in range(3)]
    turn = torch.eye(3, dtype=torch.float64) * 5 + torch.randn(3, 3, generator=generator(seed), dtype=torch.float64)
    faked: list[Adapter] = [{n: Layer(turn.inverse() @ x.a.double(), x.b.double() @ turn) for n, x in a.items()} for a in adapters]
    np.testing.assert_allclose(gram(faked), gram(adapters), rtol=1e-7, atol=1e-7)


def test_vectors_are_those_of_kernel_pca() -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 2, i) for i in range(12)]
    alike = cosines(gram(adapters))
    full = flat(adapters)
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    np.testing.assert_allclose(alike, full @ full.T, atol=1e-9)
    want = unit(KernelPCA(DIMS, kernel="precomputed").fit_transform(full @ full.T))
    made = embedded(alike)
    np.testing.assert_allclose(np.abs(made), np.abs(want), atol=1e-6)
    np.testing.assert_allclose(made @ made.T, want @ want.T, atol=1e-6)
    np.testing.assert_array_equal(embedded(alike.copy()), made)


def test_what_everybody_learns_alike_does_not_count() -> None:
    """Two groups, hidden under a common direction four times as long: cosines above 0.9 for all, opposite vectors all the same."""
    full = unit(np.array([[4.0, 1.0, 0.1], [4.0, 1.0, -0.1], [4.0, -1.0, 0.1], [4.0, -1.0, -0.1]]))
    made = embedded(full @ full.T)
    assert (full @ full.T).min() > 0.85
    assert (made[:2] @ made[2:].T).max() < -0.9
    assert made[0] @ made[1] > 0.9


def test_clients_that_are_all_the_same_or_learnt_nothing_have_no_direction() -> None:
    assert not embedded(np.ones((4, 4))).any()
    adapters: list[Adapter] = [random_adapter(SHAPES, 2, 0), random_adapter(SHAPES, 2, 1, size=0.0)]
    assert cosines(gram(adapters))[1].tolist() == [0.0, 0.0]


def test_cosines_are_averaged_over_the_rounds_in_which_a_pair_was_seen() -> None:
    first = remembered(["a", "c"], np.array([[1.0, 0.2], [0.2, 1.0]]), None)
    both = remembered(["a", "b", "c"], np.array([[1.0, 0.5, 0.4], [0.5, 1.0, 0.0], [0.4, 0.0, 1.0]]), first)
    last = remembered(["b"], np.array([[1.0]]), both)
    np.testing.assert_allclose(last.mean(["a", "b", "c"]), [[1, 0.5, 0.3], [0.5, 1, 0], [0.3, 0, 1]])
    np.testing.assert_allclose(last.mean(["a", "c"]), [[1, 0.3], [0.3, 1]])
    apart = remembered(["d"], np.array([[1.0]]), first)
    assert apart.mean(["a", "d"]).tolist() == [[1, 0], [0, 1]]


def test_noise_of_single_rounds_averages_out() -> None:
    """Groups that one round shows dimly are clear after eight."""
    draw = np.random.default_rng(0)
    true = np.kron(np.eye(2), np.ones((10, 10))) * 0.1
    alike = None
    found = []
    for _ in range(8):
        noise = draw.normal(0, 0.4, (20, 20))
        alike = remembered([f"c{i:02}" for i in range(20)], true + (noise + noise.T) / 2, alike)
        vectors = embedded(alike.mean(alike.clients))[:, :1]
        found.append(float(abs(np.sign(vectors[:10]).sum()) + abs(np.sign(vectors[10:]).sum())))
    assert found[-1] == 20
    assert found[-1] > found[0]


@pytest.mark.parametrize(("clients", "share"), [(3, 1.0), (10, 0.5), (25, 0.2), (40, 0.2)])
def test_both_views_side_by_side_have_the_weighted_mean_of_both_cosines(clients: int, share: float) -> None:
    """Few clients' adapters tell little but noise: there, wishes count more."""
    wishes = {f"c{i:02}": np.random.default_rng(i).normal(size=3) for i in range(clients)}
    adapters: list[Adapter] = [random_adapter(SHAPES, 2, i) for i in range(len(wishes))]
    alike = cosines(gram(adapters))
    first, second, both = (seen(view, wishes, alike) for view in ("requirements", "adapters", "both"))
    np.testing.assert_allclose(both @ both.T, share * (first @ first.T) + (1 - share) * (second @ second.T), atol=1e-9)
    np.testing.assert_array_equal(seen("both", wishes, None), first)


def test_the_gram_matrix_of_many_is_the_same_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 1 + i % 3, i) for i in range(11)]
    whole = gram(adapters)
    monkeypatch.setattr(vectors, "AT_ONCE", 4)
    np.testing.assert_allclose(gram(adapters), whole, rtol=1e-12)
    np.testing.assert_allclose(whole, flat(adapters) @ flat(adapters).T, rtol=1e-9, atol=1e-9)


def test_when_clients_took_part_says_nothing_of_what_they_learnt() -> None:
    """Three cohorts of ten that never met, two styles in each: cosines 0.4 inside a style, 0.25 across."""
    style, alike = np.arange(30) % 2, None
    true = np.where(style[:, None] == style[None, :], 0.4, 0.25) + 0.6 * np.eye(30)
    for cohort in np.split(np.arange(30), 3):
        alike = remembered([f"c{i:02}" for i in cohort], true[np.ix_(cohort, cohort)], alike)
    assert alike is not None
    found = embedded(alike.mean([f"c{i:02}" for i in range(30)]))
    cosine, met = found @ found.T, np.kron(np.eye(3), np.ones((10, 10))) > 0
    same, other = style[:, None] == style[None, :], ~np.eye(30, dtype=bool)
    assert cosine[met & same & other].mean() > 0.5
    assert cosine[met & ~same].mean() < 0
    assert abs(cosine[~met].mean()) < 0.15
