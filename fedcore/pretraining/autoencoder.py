"""The variational autoencoder: 64×64 RGB ↔ 8×8×8 latents, sharp on flat art and on line art."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from fedcore.pretraining.loop import fast_precision
from fedcore.pretraining.pictures import VARIANTS, move
from fedcore.seeds import generator

KL_WEIGHT = 1e-5
HUE_WEIGHT = 0.2


def new_autoencoder() -> AutoencoderKL:
    """An untrained f8 autoencoder (2.8 M parameters)."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 48, 96, 128),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Moved, recoloured (channels permuted) and, four times in ten, redrawn as one of the variants. (n, 3, h, w) in [-1, 1]."""
    out = move(pictures, generator, smallest=0.7)
    for i in range(len(out)):
        if torch.rand((), generator=generator) < 0.3:
            out[i] = out[i][torch.randperm(3, generator=generator)]
        which = int(torch.randint(len(VARIANTS) * 5 // 2, (), generator=generator))
        if which < len(VARIANTS):
            out[i : i + 1] = list(VARIANTS.values())[which](out[i : i + 1])
    return out


def reconstruction_loss(made: Tensor, pictures: Tensor) -> Tensor:
    """Mean |error| + mean squared error + mean |error of the horizontal and vertical differences|."""
    error = made.float() - pictures
    gradient = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return error.abs().mean() + error.square().mean() + gradient


def hues(pictures: Tensor) -> Tensor:
    """Mean red–green and blue–yellow of each 8×8 patch, at about unit spread: (n, 3, h, w) → (n, 2, h/8, w/8)."""
    red, green, blue = F.avg_pool2d(pictures, 8).unbind(1)
    return 2 * torch.stack((red - green, (red + green) / 2 - blue), dim=1)


def autoencoder_loss(model: AutoencoderKL, pictures: Tensor, *, batch: int, seed: int, rank: int) -> Callable[[int], Tensor]:
    """The loss of step `step`: a fresh batch of augmented `pictures` (uint8, (n, 3, h, w)), encoded, resampled, decoded.

    The first two latent channels and the decoded picture are held to the `hues` of each patch. Free to choose, encoder and
    decoder agreed for thousands of steps on light and blue–yellow alone and painted red like green: neither gains by being
    the first to tell them apart.
    """

    def loss(step: int) -> Tensor:
        draw = generator(seed, "autoencoder", step, rank)
        rows = torch.randint(len(pictures), (batch,), generator=draw)
        clean = augment(pictures[rows].float() / 127.5 - 1, draw)
        with fast_precision():
            mean, log_variance = model.quant_conv(model.encoder(clean)).float().chunk(2, dim=1)
            log_variance = log_variance.clamp(-30, 20)
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=draw)
            made = model.decoder(model.post_quant_conv(latent))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=(1, 2, 3)).mean()
        wanted = hues(clean)
        hue_loss = (mean[:, :2] - wanted).abs().mean() + (hues(made.float()) - wanted).abs().mean()
        value: Tensor = reconstruction_loss(made, clean) + HUE_WEIGHT * hue_loss + KL_WEIGHT * divergence
        return value

    return loss


@torch.no_grad()
def peak_signal_to_noise(model: AutoencoderKL, pictures: Tensor) -> float:
    """Mean PSNR in dB of reconstructing `pictures` (uint8, (n, 3, h, w)), per picture, peak 2.0 on [-1, 1]."""
    values = []
    for part in pictures.split(32):
        clean = part.float() / 127.5 - 1
        made = model.decode(model.encode(clean).latent_dist.mode()).sample.clamp(-1, 1)
        values.append(10 * torch.log10(4 / F.mse_loss(made, clean, reduction="none").mean(dim=(1, 2, 3))))
    return float(torch.cat(values).mean())
