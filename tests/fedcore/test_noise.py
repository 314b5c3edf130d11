"""Noise, targets and weights are the published ones, and those of diffusers."""

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from fedcore.noise import Diffusion, Flow
from fedcore.pretraining.diffusion import new_scheduler
from fedcore.seeds import generator
from tests.tiny import LATENT

ALL = torch.arange(1000)


def scheduler(prediction: str) -> DDIMScheduler:
    """Stable Diffusion's own schedule, which does not end at SNR 0."""
    return DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction)


def test_min_snr_weights_for_epsilon_are_the_published_ones() -> None:
    """Hang et al. (arXiv 2303.09556): min(SNR, γ) / SNR."""
    model = scheduler("epsilon")
    alphas = model.alphas_cumprod.tolist()
    want = [min(a / (1 - a), 5) / (a / (1 - a)) for a in alphas]
    assert Diffusion.of(model).weights(ALL, 5.0).tolist() == pytest.approx(want, rel=1e-5)


def test_min_snr_weights_for_v_are_the_published_ones() -> None:
    """The same paper, section 3.4, for the v-target: min(SNR, γ) / (SNR + 1)."""
    model = scheduler("v_prediction")
    want = [min(a / (1 - a), 5) / (a / (1 - a) + 1) for a in model.alphas_cumprod.tolist()]
    assert Diffusion.of(model).weights(ALL, 5.0).tolist() == pytest.approx(want, rel=1e-5)


def test_the_noisiest_step_keeps_weight_one_where_the_schedule_ends_in_pure_noise() -> None:
    weights = Diffusion.of(new_scheduler()).weights(ALL, 5.0)
    alphas = new_scheduler().alphas_cumprod.double()
    want = [(min(a / (1 - a), 5) + 1) / (a / (1 - a) + 1) for a in alphas.tolist()]
    assert weights.tolist() == pytest.approx(want, rel=1e-5)
    assert float(weights[-1]) == pytest.approx(1)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_gamma_zero_weighs_all_steps_alike(prediction: str) -> None:
    assert Diffusion.of(scheduler(prediction)).weights(ALL, 0).tolist() == [1.0] * 1000


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_targets_are_those_of_diffusers(prediction: str) -> None:
    model = scheduler(prediction)
    draw = generator(0, "noise")
    clean, noise = torch.randn(5, *LATENT, generator=draw), torch.randn(5, *LATENT, generator=draw)
    times = torch.tensor([0, 1, 400, 998, 999])
    noisy, target = Diffusion.of(model).noised(clean, noise, times)
    torch.testing.assert_close(noisy, model.add_noise(clean, noise, times))
    torch.testing.assert_close(target, noise if prediction == "epsilon" else model.get_velocity(clean, noise, times))


# Flows


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_is_that_of_diffusers(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    draw = generator(0, "flow")
    clean, noise = torch.randn(3, *LATENT, generator=draw), torch.randn(3, *LATENT, generator=draw)
    times = scheduler.timesteps[[0, 400, 999]]
    noisy, target = Flow.of(scheduler).noised(clean, noise, times)
    torch.testing.assert_close(noisy, scheduler.scale_noise(clean, times, noise))
    torch.testing.assert_close(noisy - target * (times / 1000)[:, None, None, None], clean)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_timesteps_of_a_flow_are_logit_normal_and_shifted(shift: float) -> None:
    """Half of all lie below the shifted middle, s/2 / (1 + (s − 1)/2); a normal's quartiles are at ±0.6745."""
    times = Flow.of(FlowMatchEulerDiscreteScheduler(shift=shift)).draw(20000, generator(0, "times"))
    for quantile, z in ((0.25, -0.6745), (0.5, 0.0), (0.75, 0.6745)):
        u = 1 / (1 + 2.718281828**-z)
        assert float(times.quantile(quantile)) == pytest.approx(1000 * shift * u / (1 + (shift - 1) * u), rel=0.02)


def test_a_flow_that_shifts_by_size_does_not_while_training() -> None:
    assert Flow.of(FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)).shift == 1.0


def test_held_out_timesteps_are_the_middles_of_equal_parts() -> None:
    assert Flow(1000, 3.0).midpoints(4).tolist() == [125, 375, 625, 875]
    assert Flow(1000, 3.0).weights(torch.tensor([1.0, 900.0]), 5.0).tolist() == [1, 1]
    assert Diffusion.of(new_scheduler()).midpoints(4).tolist() == [125, 375, 625, 875]
