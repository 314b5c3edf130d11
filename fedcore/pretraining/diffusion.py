"""The denoiser and the text encoder, trained together on latents and captions: v-prediction, zero terminal SNR."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from fedcore.noise import Diffusion
from fedcore.pretraining.captions import STYLE_WORDS, caption
from fedcore.pretraining.loop import fast_precision
from fedcore.pretraining.pictures import VARIANTS
from fedcore.pretraining.text import WIDTH
from fedcore.seeds import derive, generator

GAMMA = 5.0


def new_denoiser() -> UNet2DConditionModel:
    """An untrained UNet for 8×8×8 latents (7.0 M parameters), cross-attention at 8×8, 4×4 and 2×2.

    Most of the cost lies at 8×8, so the parameters lie below: as large as two levels of 80 and 176 channels at 60 % of the work.
    """
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    """Noise schedule of the base: v-prediction with zero terminal SNR, since the pictures have white grounds (arXiv 2305.08891)."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )


@dataclass(frozen=True)
class Latents:
    """Latents of every picture in every version.

    `values`: (pictures, versions, channels, h, w) float16; `looks[v]` is the drawn variant of version v or None for the
    artist's own drawing, of which the first two are centred and the others moved; `names[i]` and `styles[i]` describe picture i,
    which is drawn in proportion to `shares[i]`.
    """

    values: Tensor
    looks: tuple[str | None, ...]
    names: tuple[tuple[str, ...], ...]
    styles: tuple[str, ...]
    shares: tuple[float, ...]


class TextToLatent(nn.Module):
    """Text encoder and denoiser as one module, so that one optimiser trains both."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predicted v, shape of `noisy`: (n, channels, h, w)."""
        prediction: Tensor = self.unet(noisy, timesteps, self.text_encoder(tokens).last_hidden_state).sample
        return prediction.float()


VARIANT_SHARE = 0.2
CENTRED = 2
MOVED_SHARE = 0.15
"""Moved pictures teach shapes wherever they lie; most come centred, as clients' pictures do."""


def draw_batch(data: Latents, batch: int, draw: random.Random) -> tuple[Tensor, list[str]]:
    """Latents (batch, channels, h, w) in float32 and their captions; some of them drawn variants, captioned as such."""
    own = [v for v, look in enumerate(data.looks) if look is None]
    variants = [v for v, look in enumerate(data.looks) if look is not None]
    rows, captions = [], []
    for i in draw.choices(range(len(data.names)), data.shares, k=batch):
        if draw.random() < VARIANT_SHARE:
            version = draw.choice(variants)
        else:
            version = draw.choice(own[CENTRED:] if draw.random() < MOVED_SHARE else own[:CENTRED])
        rows.append(data.values[i, version])
        captions.append(caption(data.names[i], data.looks[version] or data.styles[i], draw))
    return torch.stack(rows).float(), captions


def diffusion_loss(
    model: TextToLatent, tokenizer: CLIPTokenizer, data: Latents, *, batch: int, seed: int, rank: int
) -> Callable[[int], Tensor]:
    """The loss of step `step`: v-prediction error, stratified timesteps, weight (min(SNR, γ) + 1) / (SNR + 1).

    This is min-SNR weighting (arXiv 2303.09556) of the v-error, shifted by one so that the noisiest steps, where the
    composition is decided and SNR goes to zero, keep weight 1.
    """
    process = Diffusion.of(new_scheduler())
    if set(filter(None, data.looks)) - set(VARIANTS) or set(data.styles) - set(STYLE_WORDS):
        raise ValueError("a look or style has no words in captions.STYLE_WORDS")

    def loss(step: int) -> Tensor:
        noise_from = generator(seed, "diffusion", step, rank)
        clean, captions = draw_batch(data, batch, random.Random(derive(seed, "captions", step, rank)))
        tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        strata = (torch.arange(batch) + torch.rand(batch, generator=noise_from)) / batch
        timesteps = (strata * len(process.alphas)).long()
        noisy, target = process.noised(clean, torch.randn(clean.shape, generator=noise_from), timesteps)
        with fast_precision():
            predicted = model(noisy, timesteps, tokens)
        error = (predicted - target).square().mean(dim=(1, 2, 3))
        value: Tensor = (process.weights(timesteps, GAMMA) * error).mean()
        return value

    return loss
