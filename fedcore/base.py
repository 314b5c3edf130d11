"""The base model as values: the parts of a Stable Diffusion pipeline that every stage shares, never changed by any of them."""

from dataclasses import dataclass

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer


@dataclass(frozen=True, eq=False)
class BaseModel:
    """Loaded once per process; `digest` names its exact weights."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler
    digest: str
