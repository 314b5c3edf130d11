"""The autoencoder's losses, measure and augmentation, against NumPy and by what must hold for every picture."""

import numpy as np
import pytest
import torch

from fedcore.pretraining import autoencoder
from fedcore.pretraining.autoencoder import (
    augment,
    autoencoder_loss,
    hues,
    new_autoencoder,
    peak_signal_to_noise,
    reconstruction_loss,
)
from fedcore.seeds import generator, isolated
from tests import tiny


def pictures(n: int, size: int) -> torch.Tensor:
    """Random uint8 pictures (n, 3, size, size)."""
    return torch.randint(0, 256, (n, 3, size, size), generator=generator(0, "pictures", n, size), dtype=torch.uint8)


def test_the_reconstruction_loss_is_l1_plus_l2_plus_the_error_of_the_differences() -> None:
    draw = generator(0, "reconstruction")
    made, wanted = torch.randn(2, 3, 6, 5, generator=draw), torch.randn(2, 3, 6, 5, generator=draw)
    error = made.double().numpy() - wanted.double().numpy()
    expected = np.abs(error).mean() + (error**2).mean() + np.abs(np.diff(error, axis=3)).mean() + np.abs(np.diff(error, axis=2)).mean()
    assert float(reconstruction_loss(made, wanted)) == pytest.approx(expected, rel=1e-5)
    assert float(reconstruction_loss(wanted, wanted)) == 0


def test_hues_tell_red_from_green_and_blue_from_yellow_and_ignore_light() -> None:
    colours = {"red": (1, 0, 0), "green": (0, 1, 0), "yellow": (1, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1), "black": (-1, -1, -1)}
    patches = [torch.tensor(c).float()[:, None, None].expand(3, 8, 8) for c in colours.values()]
    found = hues(torch.stack([torch.cat([patch, patches[-1]], dim=2) for patch in patches]))
    assert found.shape == (6, 2, 1, 2)
    assert dict(zip(colours, found[:, :, 0, 0].tolist(), strict=True)) == {
        "red": [2, 1], "green": [-2, 1], "yellow": [0, 2], "blue": [0, -2], "white": [0, 0], "black": [0, 0],
    }  # fmt: skip
    assert torch.equal(found[:, :, 0, 1], torch.zeros(6, 2))


@torch.no_grad()
def test_latents_and_pictures_of_other_hues_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    with isolated(0, "autoencoder test"):
        model = new_autoencoder()
    monkeypatch.setattr(autoencoder, "augment", lambda given, _: given)
    data = pictures(1, 64).expand(4, -1, -1, -1)
    loss, clean = autoencoder_loss(model, data, batch=2, seed=0, rank=0), data[:1].float() / 127.5 - 1
    model.encoder.conv_out.weight.zero_()
    model.quant_conv.weight.zero_()
    model.quant_conv.bias[:2], model.quant_conv.bias[8:] = 0.0, -30.0  # latents without noise: the decoded hues can be computed
    made = model.decoder(model.post_quant_conv(model.quant_conv(model.encoder(clean))[:, :8]))
    expected = hues(clean).abs().mean() + (hues(made) - hues(clean)).abs().mean()
    costs = []
    for weight in (0.0, 1.0):
        monkeypatch.setattr(autoencoder, "HUE_WEIGHT", weight)
        costs.append(loss(0).item())
    assert costs[1] - costs[0] == pytest.approx(expected.item(), rel=1e-3)


@torch.no_grad()
def test_psnr_equals_its_definition_picture_by_picture() -> None:
    model, given = tiny.vae(), pictures(3, tiny.PIXELS)
    clean = given.float() / 127.5 - 1
    made = model.decode(model.encode(clean).latent_dist.mean).sample.clamp(-1, 1)
    errors = [np.square(m.double().numpy() - c.double().numpy()).mean() for m, c in zip(made, clean, strict=True)]
    assert peak_signal_to_noise(model, given) == pytest.approx(np.mean([10 * np.log10(4 / e) for e in errors]), rel=1e-5)


def test_augmented_pictures_keep_shape_and_range_and_depend_on_the_generator_alone() -> None:
    given = pictures(12, 64).float() / 127.5 - 1
    kept = given.clone()
    first, again, other = (augment(given, generator(0, "augment", i)) for i in (1, 1, 2))
    assert torch.equal(given, kept)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == given.shape
    assert float(first.min()) >= -1.0001
    assert float(first.max()) <= 1.0001


def test_training_lowers_the_loss_and_every_worker_sees_other_pictures() -> None:
    with isolated(0, "autoencoder test"):
        model = new_autoencoder()
    data = pictures(1, 64).expand(8, -1, -1, -1)
    loss = autoencoder_loss(model, data, batch=2, seed=0, rank=0)
    assert loss(3).item() == loss(3).item()
    assert loss(3).item() != autoencoder_loss(model, data, batch=2, seed=0, rank=1)(3).item()
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=2e-3), []
    for step in range(12):
        value = loss(step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert min(losses[-4:]) < losses[0]
