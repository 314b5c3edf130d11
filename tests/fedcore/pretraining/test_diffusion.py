"""The denoiser's training: what a batch is made of, the schedule's end, and the loss against its closed form."""

import random
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from fedcore.pretraining.diffusion import GAMMA, MOVED_SHARE, VARIANT_SHARE, Latents, diffusion_loss, draw_batch, new_scheduler
from fedcore.pretraining.pictures import VARIANTS
from tests import tiny
from tests.fedcore.pretraining.test_captions import has_style

LOOKS = (None, None, None, None, "line-art", "grey")
STYLES = ("noto", "fluent", "twemoji")
SHARES = (0.25, 1.0, 1.0)


def numbered(value: float | None = None) -> Latents:
    """Three pictures in six versions; unless `value` is given, every latent is 10 · picture + version everywhere."""
    numbers = 10.0 * torch.arange(3)[:, None] + torch.arange(len(LOOKS)) if value is None else torch.full((3, len(LOOKS)), value)
    values = numbers[:, :, None, None, None].expand(-1, -1, 4, 2, 2).half().contiguous()
    return Latents(values, LOOKS, (("cat",), ("dog",), ("house",)), STYLES, SHARES)


class Zero(nn.Module):
    """Predicts nothing."""

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Zeros of the shape of `noisy`."""
        assert len(noisy) == len(timesteps) == len(tokens)
        return torch.zeros_like(noisy)


def test_a_batch_mixes_versions_in_the_stated_shares_and_its_captions_tell_the_truth() -> None:
    data = numbered()
    latents, captions = draw_batch(data, 4000, random.Random(0))
    assert latents.shape == (4000, 4, 2, 2)
    versions, pictures = Counter(), Counter()
    for latent, caption in zip(latents, captions, strict=True):
        picture, version = divmod(int(latent[0, 0, 0]), 10)
        versions[version] += 1
        pictures[picture] += 1
        subject = data.names[picture][0]
        assert not any(name[0] in caption.split() for i, name in enumerate(data.names) if i != picture)
        said = has_style(caption, LOOKS[version] or STYLES[picture])
        assert subject in caption or said or caption == ""
        if LOOKS[version]:  # a drawn variant always names its look
            assert said, caption
    assert sum(versions[v] for v in (4, 5)) / 4000 == pytest.approx(VARIANT_SHARE, abs=0.02)
    assert sum(versions[v] for v in (2, 3)) / 4000 == pytest.approx((1 - VARIANT_SHARE) * MOVED_SHARE, abs=0.02)
    assert pictures[0] / 4000 == pytest.approx(0.25 / 2.25, abs=0.02)


def test_the_noise_schedule_ends_at_pure_noise() -> None:
    alphas = new_scheduler().alphas_cumprod
    assert float(alphas[-1]) == 0
    assert bool((alphas[1:] < alphas[:-1]).all())


@pytest.mark.parametrize("clean", [0.0, 2.0])
def test_the_loss_of_predicting_nothing_has_a_closed_form(clean: float) -> None:
    """E‖v‖² = ᾱ + (1 − ᾱ)·x² for a constant picture x, weighted by (min(SNR, γ) + 1)/(SNR + 1), averaged over timesteps."""
    alphas = new_scheduler().alphas_cumprod.double()
    snr = alphas / (1 - alphas)
    expected = ((snr.clamp(max=GAMMA) + 1) / (snr + 1) * (alphas + (1 - alphas) * clean**2)).mean()
    loss = diffusion_loss(Zero(), tiny.tokenizer(), numbered(clean), batch=2000, seed=0, rank=0)  # type: ignore[arg-type]
    assert float(loss(0)) == pytest.approx(float(expected), rel=0.03)
    assert float(loss(0)) == float(loss(0)) != float(loss(1))


def test_a_look_without_words_is_refused() -> None:
    data = numbered()
    unknown = Latents(data.values, (*LOOKS[:-1], "cubist"), data.names, data.styles, data.shares)
    assert "cubist" not in VARIANTS
    with pytest.raises(ValueError, match="no words"):
        diffusion_loss(Zero(), tiny.tokenizer(), unknown, batch=2, seed=0, rank=0)  # type: ignore[arg-type]
