"""Server optimisers against their published update rules, written out in numpy over several rounds."""

from typing import get_args

import numpy as np
import pytest
import torch

from fedcore.adapters import Layer
from fedcore.aggregation.server import Optimiser, State, Step, stepped
from tests.tiny import random_layer

ROUNDS = 4


@pytest.mark.parametrize("method", [m for m in get_args(Optimiser) if m != "none"])
def test_each_round_follows_the_published_rule(method: Optimiser) -> None:
    step = Step(method, lr=0.3, beta1=0.8, beta2=0.95, tau=1e-2)
    x = {"l": random_layer(5, 4, 2, "start")}
    want = x["l"].b.double().numpy().copy()
    m, v = np.zeros_like(want), np.full_like(want, step.tau**2)
    state: State = {}
    for number in range(ROUNDS):
        mean = {"l": Layer(x["l"].a + 0.1, x["l"].b + random_layer(5, 4, 2, number).b * 0.1, 1.0)}
        g = mean["l"].b.double().numpy() - x["l"].b.double().numpy()
        if method == "momentum":
            m = step.beta1 * m + g
            want = want + step.lr * m
        else:
            m = step.beta1 * m + (1 - step.beta1) * g
            v = step.beta2 * v + (1 - step.beta2) * g**2 if method == "adam" else v - (1 - step.beta2) * g**2 * np.sign(v - g**2)
            want = want + step.lr * m / (np.sqrt(v) + step.tau)
        made, state = stepped(x, mean, state, step)
        np.testing.assert_allclose(made["l"].b.numpy(), want, rtol=1e-9)
        x, want = made, made["l"].b.numpy().copy()
    assert set(state) == {f"l.{f}.{k}" for f in "ab" for k in ("m" if method == "momentum" else "mv")}


def test_momentum_without_memory_and_a_rate_of_one_is_the_mean() -> None:
    before, mean = {"l": random_layer(5, 4, 2, 0)}, {"l": random_layer(5, 4, 2, 1)}
    made, _ = stepped(before, mean, {}, Step("momentum", lr=1.0, beta1=0.0, beta2=0.9, tau=1e-3))
    torch.testing.assert_close(made["l"].b, mean["l"].b.double())
    torch.testing.assert_close(made["l"].a, mean["l"].a.double())


def test_a_factor_that_nobody_trained_does_not_move() -> None:
    before = {"l": random_layer(5, 4, 2, 0)}
    mean = {"l": Layer(before["l"].a, before["l"].b + 1)}
    made, _ = stepped(before, mean, {}, Step("yogi", lr=0.1, beta1=0.9, beta2=0.99, tau=1e-3))
    assert torch.equal(made["l"].a.float(), before["l"].a)
    assert not torch.equal(made["l"].b.float(), before["l"].b)


def test_momentum_of_an_earlier_round_does_not_move_a_factor_that_is_frozen_now() -> None:
    step = Step("momentum", lr=1.0, beta1=0.9, beta2=0.99, tau=1e-3)
    before = {"l": random_layer(5, 4, 2, 0)}
    first, state = stepped(before, {"l": Layer(before["l"].a, before["l"].b + 1)}, {}, step, "b")
    second, after = stepped(first, {"l": Layer(first["l"].a + 1, first["l"].b)}, state, step, "a")
    assert torch.equal(second["l"].b, first["l"].b)
    assert not torch.equal(second["l"].a, first["l"].a)
    assert torch.equal(after["l.b.m"], state["l.b.m"])
    third, _ = stepped(second, {"l": Layer(second["l"].a, second["l"].b + 1)}, after, step, "b")
    torch.testing.assert_close(third["l"].b - second["l"].b.double(), torch.full((5, 2), 1.9, dtype=torch.float64))
