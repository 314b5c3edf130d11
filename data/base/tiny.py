"""A Stable Diffusion of random weights in the real classes, too small to draw: for tests, and to measure all but its computation."""

from pathlib import Path

from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from fedcore.base import BaseModel
from fedcore.pretraining.diffusion import new_scheduler
from fedcore.pretraining.text import WIDTH, new_text_encoder, train_tokenizer
from fedcore.seeds import isolated

CAPTIONS = ("a cat", "a dog", "a red house", "pizza", "black line art", "soft pastel colours", "a cat in black line art") * 2
PIXELS = 16
LATENT = (4, 8, 8)


def tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer of a few words."""
    return train_tokenizer(CAPTIONS)


def text_encoder() -> CLIPTextModel:
    """Two layers, 128 wide, 32 tokens."""
    with isolated(0, "tiny text encoder"):
        return new_text_encoder(tokenizer()).eval()


def vae() -> AutoencoderKL:
    """16×16 RGB ↔ 4×8×8 latents; the scaling factor is not one, so that forgetting it shows."""
    with isolated(0, "tiny autoencoder"):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(16, 32),
            latent_channels=LATENT[0],
            norm_num_groups=8,
            sample_size=PIXELS,
            scaling_factor=0.5,
        ).eval()


def unet() -> UNet2DConditionModel:
    """8×8×4 latents, cross-attention at both resolutions."""
    with isolated(0, "tiny unet"):
        return UNet2DConditionModel(
            sample_size=LATENT[1],
            in_channels=LATENT[0],
            out_channels=LATENT[0],
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            norm_num_groups=8,
        ).eval()


def least_unet() -> UNet2DConditionModel:
    """8×8×4 latents, one transformer block: eight layers to adapt."""
    with isolated(0, "least unet"):
        return UNet2DConditionModel(
            sample_size=LATENT[1],
            in_channels=LATENT[0],
            out_channels=LATENT[0],
            block_out_channels=(16,),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",),
            mid_block_type=None,
            up_block_types=("UpBlock2D",),
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            norm_num_groups=8,
        ).eval()


def pipeline(base: BaseModel | None = None, denoiser: UNet2DConditionModel | None = None) -> StableDiffusionPipeline:
    """The parts as diffusers' own pipeline: fresh ones, or those of `base`; around `denoiser`, if one is given."""
    return StableDiffusionPipeline(
        vae=base.vae if base else vae(),
        text_encoder=base.text_encoders[0] if base else text_encoder(),
        tokenizer=base.tokenizers[0] if base else tokenizer(),
        unet=denoiser or (base.denoiser if base else unet()),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_base(folder: Path, denoiser: UNet2DConditionModel | None = None) -> Path:
    """The tiny base as a folder that `StableDiffusionPipeline.from_pretrained` opens."""
    transformers_logging.disable_progress_bar()
    pipeline(denoiser=denoiser).save_pretrained(folder)
    return folder
