"""The optimisation loop: its rate, its average, and exact resumption."""

import math

import pytest
import torch
from torch import Tensor, nn

from fedcore.pretraining.loop import Schedule, State, optimise
from fedcore.seeds import generator, isolated

SCHEDULE = Schedule(steps=60, lr=0.05, warmup=10)


def model() -> nn.Module:
    with isolated(0, "loop"):
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def run(net: nn.Module, schedule: Schedule = SCHEDULE, state: State | None = None) -> tuple[dict[int, State], list[float], list[float]]:
    """Fit a fixed function; keep copies of the states, the losses and what is reported of them."""
    states: dict[int, State] = {}
    losses: list[float] = []
    told: list[float] = []

    def loss(step: int) -> Tensor:
        x = torch.randn(16, 4, generator=generator(0, "batch", step))
        out: Tensor = (net(x) - x.sum(dim=1, keepdim=True).tanh()).square().mean()
        losses.append(out.item())
        return out

    def save(step: int, state: State) -> None:
        states[step] = {name: tensor.clone() for name, tensor in state.items()}

    optimise(net, loss, schedule, workers=1, state=state, save_every=25, save=save, report=lambda _, value: told.append(value))
    return states, losses, told


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit() -> None:
    whole, again = model(), model()
    states, *_ = run(whole)
    assert sorted(states) == [25, 50, 60]
    resumed, *_ = run(again, state=states[25])
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert resumed[60].keys() == states[60].keys()
    assert all(torch.equal(resumed[60][name], states[60][name]) for name in states[60])


def test_the_first_step_is_adams_and_the_average_follows_with_its_own_warm_up() -> None:
    """Adam's first step is the rate times the gradient's sign, after weight decay; the average moves 9/10 of the way at once."""
    net = model()
    start = net[0].weight.detach().clone()
    states, *_ = run(net, Schedule(steps=1, lr=0.05, warmup=10, weight_decay=0.1))
    moved = states[1]["weight/0.weight"] - start * (1 - 0.005 * 0.1)
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.005), rtol=1e-3, atol=0)
    torch.testing.assert_close(states[1]["ema/0.weight"], start + 0.9 * (states[1]["weight/0.weight"] - start))
    assert torch.equal(net[0].weight, states[1]["ema/0.weight"])


def test_the_loss_falls_and_is_reported_as_the_mean_of_twenty_steps() -> None:
    _, losses, told = run(model())
    assert told == pytest.approx([sum(losses[i : i + 20]) / 20 for i in (0, 20, 40)])
    assert told[2] < 0.3 * told[0]


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.1), (9, 1.0), (10, 1.0), (59, 1.0), (60, 1.0), (85, 0.51), (110, 0.02)],
)
def test_the_rate_warms_up_holds_and_falls_as_a_cosine(step: int, rate: float) -> None:
    """110 steps, 10 of warm-up, the last half of the rest decays to 2 %: half-way down at 85."""
    assert Schedule(steps=110, lr=1.0, warmup=10, decay=0.5).rate(step) == pytest.approx(rate)


def test_without_holding_the_cosine_spans_the_rest() -> None:
    schedule = Schedule(steps=110, lr=2.0, warmup=10, floor=0.0)
    assert schedule.rate(35) == pytest.approx(2 * 0.5 * (1 + math.cos(math.pi / 4)))
