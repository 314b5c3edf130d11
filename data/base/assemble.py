"""Puts the trained parts together as the embedded base: a StableDiffusionPipeline folder with fp16 safetensors."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from fedcore.errors import StoreError
from fedcore.pretraining.diffusion import TextToLatent, new_denoiser, new_scheduler
from fedcore.pretraining.text import new_text_encoder


def assemble(parts: Path, target: Path) -> int:
    """From the autoencoder, the tokenizer and the averaged weights in the diffusion checkpoint; returns the step they were taken at."""
    tokenizer = CLIPTokenizer.from_pretrained(parts / "tokenizer")
    model = TextToLatent(new_text_encoder(tokenizer), new_denoiser())
    state = load_file(parts / "diffusion.safetensors")
    averages = {name.removeprefix("ema/"): value for name, value in state.items() if name.startswith("ema/")}
    left, _ = model.load_state_dict(averages, strict=False)  # buffers are not in the checkpoint
    if lacking := sorted(set(left) & {name for name, _ in model.named_parameters()}):
        raise StoreError(f"{parts / 'diffusion.safetensors'}: the checkpoint lacks {lacking[0]}; train again")
    vae = AutoencoderKL.from_pretrained(parts / "vae-unit")
    vae.register_to_config(scaling_factor=1.0)
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=model.text_encoder, tokenizer=tokenizer, unet=model.unet, scheduler=new_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(torch.float16).save_pretrained(target, safe_serialization=True)
    return int(state["step"])
