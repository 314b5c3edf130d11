"""The tiny base, small random adapters and pictures: the same ones on every call."""

import io
from copy import deepcopy
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor

from data.base.tiny import CAPTIONS, LATENT, PIXELS, pipeline, save_base, text_encoder, tokenizer, unet, vae
from fedcore.adapters import Adapter, Layer, Shapes
from fedcore.seeds import generator

__all__ = ["CAPTIONS", "LATENT", "PIXELS", "pipeline", "save_base", "text_encoder", "tokenizer", "unet", "vae"]


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
