"""Flux-type transformers: CLIP for one vector, T5 for the tokens, latents in patches of 2×2, rectified flow."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedcore.adapters import Adapter, Layer
from fedcore.base import BaseModel, Conditioning, Encoded, Family, Kohya, Shape
from fedcore.families.encoding import batched, meanings, of_empty, tokenised
from fedcore.families.layers import JOINT_ATTENTION
from fedcore.families.sizes import patch, pixels_per_latent, square, unbounded
from fedcore.families.timesteps import dynamic_shift
from fedcore.noise import Flow

T5_TOKENS = 512


@torch.no_grad()
def _encode(base: BaseModel, texts: Sequence[str]) -> Encoded:
    """T5's tokens; pooled is CLIP's own."""

    def part(some: Sequence[str]) -> Encoded:
        read = tokenised(base, 0, some)
        clip = base.text_encoders[0](read.input_ids)
        t5 = base.text_encoders[1](tokenised(base, 1, some, T5_TOKENS).input_ids)[0].float()
        said = meanings(clip.last_hidden_state.float(), read.attention_mask)
        return Encoded(Conditioning(t5, clip.pooler_output.float()), said)

    return batched(part, texts)


def _shape(base: BaseModel, size: int | None) -> Shape:
    made_for = base.vae.config.sample_size // pixels_per_latent(base)
    return square(base.denoiser.config.in_channels // 4, made_for, base, size)


def packed(latents: Tensor) -> Tensor:
    """(n, c, h, w) as patches (n, h/2 · w/2, 4 c)."""
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, (h // 2) * (w // 2), 4 * c)


def unpacked(patches: Tensor, h: int, w: int) -> Tensor:
    """The inverse of `packed`."""
    n, _, c = patches.shape
    return patches.view(n, h // 2, w // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(n, c // 4, h, w)


def _predict(base: BaseModel, noisy: Tensor, timesteps: Tensor, prompts: Conditioning, guidance: float) -> Tensor:
    """With rows and columns of the patches as positions."""
    h, w = noisy.shape[2:]
    places = torch.zeros(h // 2, w // 2, 3, device=noisy.device)
    places[..., 1] += torch.arange(h // 2, device=noisy.device)[:, None]
    places[..., 2] += torch.arange(w // 2, device=noisy.device)[None, :]
    patches: Tensor = base.denoiser(
        hidden_states=packed(noisy),
        timestep=timesteps / base.scheduler.config.num_train_timesteps,
        guidance=torch.full((len(noisy),), guidance, device=noisy.device) if _guided(base) else None,
        encoder_hidden_states=prompts.tokens,
        pooled_projections=prompts.pooled,
        txt_ids=torch.zeros(prompts.tokens.shape[1], 3, device=noisy.device),
        img_ids=places.view(-1, 3),
    ).sample
    return unpacked(patches, h, w)


def _guided(base: BaseModel) -> bool:
    """The distilled models take the guidance as a number."""
    return bool(base.denoiser.config.guidance_embeds)


STREAMS = {"img": ("to_q", "to_k", "to_v"), "txt": ("add_q_proj", "add_k_proj", "add_v_proj")}
DOUBLE = {
    "attn.to_out.0": "img_attn_proj",
    "attn.to_add_out": "txt_attn_proj",
    "ff.net.0.proj": "img_mlp_0",
    "ff.net.2": "img_mlp_2",
    "ff_context.net.0.proj": "txt_mlp_0",
    "ff_context.net.2": "txt_mlp_2",
}


def _fused(parts: Sequence[Layer | None], kernels: Sequence[tuple[int, ...]]) -> tuple[Layer, tuple[int, ...]]:
    """Layers with the same input as one: A's stacked, B's on the diagonal, scales folded in; who is not there is nought."""
    rank, width = max(p.rank for p in parts if p is not None), kernels[0][1]
    downs, ups = torch.zeros(len(parts) * rank, width), torch.zeros(sum(k[0] for k in kernels), len(parts) * rank)
    row = 0
    for i, (part, kernel) in enumerate(zip(parts, kernels, strict=True)):
        if part is not None:
            downs[i * rank : i * rank + part.rank] = part.a
            ups[row : row + kernel[0], i * rank : i * rank + part.rank] = part.folded().b
        row += kernel[0]
    return Layer(downs, ups), (row, width)


def _kohya(adapter: Adapter, kernels: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Layer, tuple[int, ...]]]:
    """The original's names, where queries, keys and values (and in single blocks the MLP) are one layer."""
    out: dict[str, tuple[Layer, tuple[int, ...]]] = {}
    for block in sorted({name.split(".")[1] for name in adapter if name.startswith("transformer_blocks.")}):
        of, to = f"transformer_blocks.{block}", f"lora_unet_double_blocks_{block}"
        for stream, ends in STREAMS.items():
            names = [f"{of}.attn.{end}" for end in ends]
            out[f"{to}_{stream}_attn_qkv"] = _fused([adapter.get(n) for n in names], [kernels[n] for n in names])
        out |= {f"{to}_{new}": (adapter[n], kernels[n]) for old, new in DOUBLE.items() if (n := f"{of}.{old}") in adapter}
    for block in sorted({name.split(".")[1] for name in adapter if name.startswith("single_transformer_blocks.")}):
        of, to = f"single_transformer_blocks.{block}", f"lora_unet_single_blocks_{block}"
        names = [f"{of}.attn.{end}" for end in STREAMS["img"]] + [f"{of}.proj_mlp"]
        shapes = [kernels[n] for n in names[:3]]
        shapes.append(kernels.get(names[3], (4 * shapes[0][0], shapes[0][1])))
        out[f"{to}_linear1"] = _fused([adapter.get(n) for n in names], shapes)
        if (n := f"{of}.proj_out") in adapter:
            out[f"{to}_linear2"] = adapter[n], kernels[n]
    return out


def _schedule(scheduler: Any, steps: int, shape: Shape) -> None:
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), **dynamic_shift(scheduler, shape))


FLUX = Family(
    pipeline="FluxPipeline",
    parts={
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "T5TokenizerFast",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "T5EncoderModel",
        "vae": "AutoencoderKL",
        "transformer": "FluxTransformer2DModel",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
    },
    denoiser="transformer",
    attention=JOINT_ATTENTION,
    further=("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out"),
    process=Flow.of,
    encode=_encode,
    nothing=of_empty,
    shape=_shape,
    predict=_predict,
    schedule=_schedule,
    multiple=patch,
    largest=unbounded,
    two_passes=False,
    kohya=Kohya(lambda _kernels, _predicts: ("flux1", "flux-1-dev/lora"), _kohya),
)
