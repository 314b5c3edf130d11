"""Held-out losses against a slow loop with merged weights."""

import pytest
import torch

from fedcore.adapters import Adapter
from fedcore.base import BaseModel, Conditioning
from fedcore.evaluation import heldout_losses
from fedcore.injection import target_shapes
from fedcore.seeds import generator
from fedcore.training import Examples
from tests.tiny import LATENT, merged, random_adapter

STEPS = 3


def examples(n: int) -> Examples:
    draw = generator(0, "held out")
    mean = torch.randn(n, *LATENT, generator=draw)
    return Examples(mean, torch.zeros_like(mean), Conditioning(torch.randn(n, 32, 128, generator=draw)))


def adapter(base: BaseModel) -> Adapter:
    return random_adapter(target_shapes(base, "attention"), 2, "held out", scale=0.5, size=0.1)


def losses(base: BaseModel, rows: Examples, adapter: Adapter | None, seed: int = 5) -> torch.Tensor:
    return heldout_losses(base, rows, adapter, timesteps=STEPS, seed=seed)


@torch.no_grad()
def test_losses_equal_a_loop_over_single_pictures_and_steps(base: BaseModel) -> None:
    """1000 steps in three strata: midpoints 166, 500 and 833. The last of 30 pictures is predicted in the second batch of 64."""
    rows = examples(30)
    slow = merged(base.denoiser, adapter(base))
    want = []
    for row in (0, 29):
        noise = torch.randn(STEPS, *LATENT, generator=generator(5, "heldout", row))
        errors = []
        for i, t in enumerate((166, 500, 833)):
            time, clean, eps = torch.tensor([t]), rows.mean[row : row + 1], noise[i : i + 1]
            predicted = slow(base.scheduler.add_noise(clean, eps, time), time, rows.prompts.tokens[row : row + 1]).sample
            errors.append(float((predicted - base.scheduler.get_velocity(clean, eps, time)).square().mean()))
        want.append(sum(errors) / STEPS)
    assert losses(base, rows, adapter(base))[[0, 29]].tolist() == pytest.approx(want, rel=1e-4)
    assert losses(base, rows, None)[[0, 29]].tolist() != pytest.approx(want, rel=1e-4)


def test_a_loss_does_not_depend_on_the_other_pictures_nor_on_the_order_of_layers(base: BaseModel) -> None:
    rows, mine = examples(30), adapter(base)
    alone = losses(base, rows.rows(torch.arange(3)), mine)
    torch.testing.assert_close(losses(base, rows, mine)[:3], alone)
    torch.testing.assert_close(losses(base, rows.rows(torch.arange(3)), dict(reversed(mine.items()))), alone, rtol=0, atol=0)


def test_the_noise_is_fixed_by_the_seed(base: BaseModel) -> None:
    rows = examples(3)
    assert torch.equal(losses(base, rows, None), losses(base, rows, None))
    assert not torch.allclose(losses(base, rows, None), losses(base, rows, None, seed=6), rtol=1e-3)


def test_held_out_latents_are_the_means_of_their_posteriors(base: BaseModel) -> None:
    rows = examples(2)
    wider = Examples(rows.mean, rows.log_variance + 3, rows.prompts)
    assert torch.equal(losses(base, rows, None), losses(base, wider, None))
