"""Puts the trained parts together as the embedded base: a StableDiffusionPipeline folder with fp16 safetensors."""

from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, ModelMixin, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from fedcore.pretraining.diffusion import new_scheduler

Part = TypeVar("Part", bound=ModelMixin)


def unnamed(part: Part) -> Part:
    """The same part without the name of the folder that it was read from, which would be written into its configuration."""
    values = {key: value for key, value in part.config.items() if key != "_name_or_path"}
    fresh: Part = type(part).from_config(values)
    fresh.load_state_dict(part.state_dict())
    return fresh


def assemble(parts: Path, target: Path) -> None:
    """From the parts that the stages of pre-training left: autoencoder, tokenizer, text encoder and denoiser."""
    vae = unnamed(AutoencoderKL.from_pretrained(parts / "vae-unit"))
    vae.register_to_config(scaling_factor=1.0)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel.from_pretrained(parts / "text_encoder-wishes"),
        tokenizer=CLIPTokenizer.from_pretrained(parts / "tokenizer"),
        unet=unnamed(UNet2DConditionModel.from_pretrained(parts / "unet")),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(target, safe_serialization=True)
