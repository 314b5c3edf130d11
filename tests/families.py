"""A small model of random weights of every family, in the real pipeline's classes, made on the spot."""

from collections.abc import Callable
from pathlib import Path

from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5TokenizerFast

from fedcore.pretraining.text import TOKENS
from fedcore.seeds import isolated
from tests.tiny import tokenizer

PIXELS = 16
WIDTH = 32


def vae(channels: int = 4, shift: float | None = None) -> AutoencoderKL:
    """16×16 RGB ↔ 8×8 latents; neither scale nor shift is such that forgetting it would not show."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        latent_channels=channels,
        norm_num_groups=8,
        sample_size=PIXELS,
        scaling_factor=0.5,
        shift_factor=shift,
    )


def clip(width: int = WIDTH, projected: bool = False) -> CLIPTextModel | CLIPTextModelWithProjection:
    """Two layers."""
    words = tokenizer()
    of = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(of)


def t5_tokenizer() -> T5TokenizerFast:
    """Letters as pieces."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0), *((chr(c), -3.0) for c in range(97, 123))]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=64)


def t5() -> T5EncoderModel:
    """One layer, 32 wide."""
    return T5EncoderModel(T5Config(vocab_size=32, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=1, num_heads=4))


def unet(**options: object) -> UNet2DConditionModel:
    """8×8 latents, attention at both resolutions."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        norm_num_groups=8,
        **{"cross_attention_dim": WIDTH, "attention_head_dim": 4, **options},
    )


def schedule(prediction: str) -> DDIMScheduler:
    """Stable Diffusion's."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )


def sd(prediction: str, **options: object) -> DiffusionPipeline:
    """Of 1.x or 2.x."""
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip(),
        tokenizer=tokenizer(),
        unet=unet(**options),
        scheduler=schedule(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def xl(zeros: bool = True) -> DiffusionPipeline:
    """Two encoders, six size numbers."""
    sizes = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 24}
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=clip(),
        text_encoder_2=clip(24, projected=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet(cross_attention_dim=WIDTH + 24, use_linear_projection=True, **sizes),
        scheduler=schedule("epsilon"),
        force_zeros_for_empty_prompt=zeros,
    )


def sd3(with_t5: bool = True) -> DiffusionPipeline:
    """Three encoders, or two."""
    return StableDiffusion3Pipeline(
        vae=vae(shift=0.1),
        text_encoder=clip(16, projected=True),
        text_encoder_2=clip(12, projected=True),
        text_encoder_3=t5() if with_t5 else None,
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        tokenizer_3=t5_tokenizer() if with_t5 else None,
        transformer=SD3Transformer2DModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=WIDTH,
            caption_projection_dim=WIDTH,
            pooled_projection_dim=28,
            qk_norm="rms_norm",
            dual_attention_layers=(0,),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux(guided: bool = True) -> DiffusionPipeline:
    """Patches of 2×2; shifted by size."""
    return FluxPipeline(
        vae=vae(shift=0.1),
        text_encoder=clip(),
        text_encoder_2=t5(),
        tokenizer=tokenizer(),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=guided,
            axes_dims_rope=(2, 2, 4),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15),
    )


FAMILIES: dict[str, Callable[[], DiffusionPipeline]] = {
    "sd15": lambda: sd("epsilon"),
    "sd2": lambda: sd("v_prediction", use_linear_projection=True, attention_head_dim=(2, 4)),
    "sdxl": xl,
    "sdxl-empty": lambda: xl(zeros=False),
    "sd3": sd3,
    "sd3-no-t5": lambda: sd3(with_t5=False),
    "flux": flux,
    "flux-schnell": lambda: flux(guided=False),
}


def saved(name: str, folder: Path) -> DiffusionPipeline:
    """The pipeline of a family, written to `folder` and opened from there by diffusers."""
    with isolated(0, "family", name):
        made = FAMILIES[name]()
    made.save_pretrained(folder)
    left_out = {part: None for part in ("text_encoder_3", "tokenizer_3") if name == "sd3-no-t5"}
    opened: DiffusionPipeline = type(made).from_pretrained(folder, **left_out)
    opened.set_progress_bar_config(disable=True)
    return opened
