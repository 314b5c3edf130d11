"""Small random-weight models of the real classes, small random adapters and pictures: the same ones on every call."""

import io
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from fedcore.adapters import Adapter, Layer, Shapes
from fedcore.base import BaseModel
from fedcore.pretraining.diffusion import new_scheduler
from fedcore.pretraining.text import WIDTH, new_text_encoder, train_tokenizer
from fedcore.seeds import generator, isolated

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


def pipeline(base: BaseModel | None = None) -> StableDiffusionPipeline:
    """The parts as diffusers' own pipeline: fresh ones, or those of `base`."""
    return StableDiffusionPipeline(
        vae=base.vae if base else vae(),
        text_encoder=base.text_encoder if base else text_encoder(),
        tokenizer=base.tokenizer if base else tokenizer(),
        unet=base.unet if base else unet(),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_base(folder: Path) -> Path:
    """The tiny base as a folder that `StableDiffusionPipeline.from_pretrained` opens."""
    pipeline().save_pretrained(folder)
    return folder


def random_layer(out: int, inputs: int, rank: int, *names: str | int, scale: float = 1.0) -> Layer:
    """Standard normal factors, fixed by `names`."""
    draw = generator(0, "layer", *names)
    return Layer(torch.randn(rank, inputs, generator=draw), torch.randn(out, rank, generator=draw), scale)


def random_adapter(shapes: Shapes, rank: int, *names: str | int, scale: float = 1.0, size: float = 1.0) -> dict[str, Layer]:
    """A random layer for each of `shapes`, its B times `size`."""
    layers = {name: random_layer(*shape, rank, name, *names, scale=scale) for name, shape in shapes.items()}
    return {name: Layer(layer.a, layer.b * size, scale) for name, layer in layers.items()}


def dense(layer: Layer) -> Tensor:
    """The definition: scale · B A, in float64."""
    return layer.scale * torch.einsum("or,ri->oi", layer.b.double(), layer.a.double())


def merged(unet: UNet2DConditionModel, adapter: Adapter) -> UNet2DConditionModel:
    """A copy of the UNet with every layer's dense update added to its weight: what an adapter means, without PEFT."""
    copy = deepcopy(unet)
    with torch.no_grad():
        for name, layer in adapter.items():
            weight = copy.get_submodule(name).weight
            weight += dense(layer).view_as(weight).float()
    return copy


def picture(*names: str | int, size: tuple[int, int] = (PIXELS, PIXELS)) -> Image.Image:
    """A picture of random colours (width, height), fixed by `names`."""
    width, height = size
    values = torch.randint(0, 256, (height, width, 3), generator=generator(0, "picture", *names), dtype=torch.uint8)
    return Image.fromarray(values.numpy())


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(*names: str | int) -> bytes:
    """A small random picture as PNG, fixed by `names`."""
    return encoded(picture(*names))
