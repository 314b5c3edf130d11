"""What clients are grouped by: Gram matrices of updates against dense ones, and vectors with the same cosines."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.adapters import Adapter, Layer
from fedcore.clustering import embedded, gram, seen
from fedcore.clustering.vectors import BLOCK
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


def test_vectors_have_the_cosines_of_the_updates_and_equal_matrices_give_equal_vectors() -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 2, i) for i in range(5)]
    products = gram(adapters)
    vectors = embedded(products)
    full = flat(adapters)
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors @ vectors.T, full @ full.T, atol=1e-9)
    np.testing.assert_array_equal(embedded(products.copy()), vectors)


def test_a_client_that_learnt_nothing_has_no_direction() -> None:
    adapters: list[Adapter] = [random_adapter(SHAPES, 2, 0), random_adapter(SHAPES, 2, 1, size=0.0), random_adapter(SHAPES, 2, 2)]
    assert np.linalg.norm(embedded(gram(adapters))[1]) < 1e-6


def test_both_views_side_by_side_have_the_mean_of_both_cosines() -> None:
    wishes = {c: np.array(v) for c, v in {"a": [1.0, 0.0], "b": [0.0, 2.0], "c": [1.0, 1.0]}.items()}
    adapters: list[Adapter] = [random_adapter(SHAPES, 2, i) for i in range(3)]
    products = gram(adapters)
    first, second, both = (seen(view, wishes, products) for view in ("requirements", "adapters", "both"))
    np.testing.assert_allclose(both @ both.T, (first @ first.T + second @ second.T) / 2, atol=1e-9)
    np.testing.assert_array_equal(seen("both", wishes, None), first)
