"""The base model as values, and what its family knows: everything else of Fedcore is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from fedcore.adapters import Adapter, Layer
from fedcore.noise import Process

if TYPE_CHECKING:  # seconds to import; whoever only reads a description does not pay them
    from diffusers import AutoencoderKL, FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Denoiser: TypeAlias = UNet2DConditionModel | SD3Transformer2DModel | FluxTransformer2DModel

Precision = Literal["fp32", "bf16", "fp16"]
"""Of the denoiser's and the text encoders' weights; adapters, autoencoder and all else stay float32."""
Device = Literal["auto", "cpu", "cuda", "mps"]
"""`auto`: the first that there is of cuda, mps, cpu."""
SAMPLER = "sampler"
"""Of a base's options: the class of the scheduler that its folder names."""
Shape = tuple[int, int, int]
"""(channels, h, w) of one picture's latents."""


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts as a denoiser takes them: `tokens` (n, tokens, width) and, where its family wants it, `pooled` (n, width)."""

    tokens: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, index: Tensor | slice) -> Conditioning:
        """The chosen prompts."""
        return Conditioning(self.tokens[index], None if self.pooled is None else self.pooled[index])

    def to(self, device: torch.device, dtype: torch.dtype) -> Conditioning:
        """The same numbers elsewhere, or in another precision."""
        return Conditioning(self.tokens.to(device, dtype), None if self.pooled is None else self.pooled.to(device, dtype))

    def times(self, n: int) -> Conditioning:
        """One prompt n times."""
        return Conditioning(self.tokens.expand(n, -1, -1), None if self.pooled is None else self.pooled.expand(n, -1))

    def where(self, chosen: Tensor, other: Conditioning) -> Conditioning:
        """These prompts where `chosen` (n,), else `other` (n or 1)."""
        pooled = None
        if self.pooled is not None and other.pooled is not None:
            pooled = torch.where(chosen[:, None], self.pooled, other.pooled)
        return Conditioning(torch.where(chosen[:, None, None], self.tokens, other.tokens), pooled)

    def followed_by(self, other: Conditioning) -> Conditioning:
        """Both, one after the other."""
        pooled = None if self.pooled is None or other.pooled is None else torch.cat([self.pooled, other.pooled])
        return Conditioning(torch.cat([self.tokens, other.tokens]), pooled)


@dataclass(frozen=True)
class Encoded:
    """Texts as numbers: `prompts` is what pictures are made from; `meanings` (n, width) has one vector a text, for wishes.

    A meaning is the mean over a text's own tokens and its end token. The end token alone, which CLIP was trained to pool at,
    means little in an encoder that was trained together with a denoiser: nothing asks it to.
    """

    prompts: Conditioning
    meanings: Tensor


class Renamed(Protocol):
    """An adapter's layers under other names, each with the shape of its weight; several may become one."""

    def __call__(self, adapter: Adapter, kernels: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Layer, tuple[int, ...]]]:
        """The same updates."""


@dataclass(frozen=True)
class Kohya:
    """How kohya's trainers name this family and its layers.

    `kind` gives the version and the architecture of a base from the shapes of its adapted layers' weights and what it predicts.
    """

    kind: Callable[[Mapping[str, tuple[int, ...]], str], tuple[str, str]]
    renamed: Renamed


@dataclass(frozen=True)
class Family:
    """What differs between kinds of models; one file of `fedcore.families` each.

    `pipeline` is the class that a folder's index names, `parts` the class of each of its folders, `denoiser` which of them
    learns. `attention` are the endings of the layers that every adapter covers, `further` those that it covers on request.

    `process(scheduler)`: how noise gets into latents. `encode(base, texts)`. `nothing(base)`: the conditioning of no prompt, one
    row. `shape(base, size)`: the latents of a picture of `size` pixels, None for the size that the model was made for.
    `predict(base, noisy, timesteps, prompts, guidance)`: what the process asks of the model, of the shape of `noisy` (n,
    channels, h, w). `schedule(scheduler, steps, shape)` sets the timesteps of a generation, as the family's pipeline does.
    `multiple(base)`: latents of a side come in so many; `largest(base)`: and at most so many (None: no bound). Guidance is
    `two_passes` with and without prompt, or a number that the model takes. `kohya` is None where diffusers reads no such names
    back.
    """

    pipeline: str
    parts: Mapping[str, str]
    denoiser: str
    attention: tuple[str, ...]
    further: tuple[str, ...]
    process: Callable[[Any], Process]
    encode: Callable[[BaseModel, Sequence[str]], Encoded]
    nothing: Callable[[BaseModel], Conditioning]
    shape: Callable[[BaseModel, int | None], Shape]
    predict: Callable[[BaseModel, Tensor, Tensor, Conditioning, float], Tensor]
    schedule: Callable[[Any, int, Shape], None]
    multiple: Callable[[BaseModel], int]
    largest: Callable[[BaseModel], int | None]
    two_passes: bool
    kohya: Kohya | None


@dataclass(frozen=True, eq=False)
class BaseModel:
    """Loaded once per process, never changed by anybody; `digest` names its exact weights.

    `tokenizers` and `text_encoders` in the order of the family's parts; `options` are what the folder's index says beside its parts.
    Only its modules lie on a device, the denoiser and the text encoders in half precision perhaps; all values outside of them
    are float32 on the CPU, where randomness is drawn: the same on every device.
    """

    family: Family
    tokenizers: tuple[PreTrainedTokenizerBase, ...]
    text_encoders: tuple[PreTrainedModel, ...]
    vae: AutoencoderKL
    denoiser: Denoiser
    scheduler: Any
    process: Process
    digest: str
    options: Mapping[str, Any]

    @cached_property
    def device(self) -> torch.device:
        """Where the modules lie."""
        first: Tensor = next(self.denoiser.parameters())
        return first.device

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of the denoiser's weights."""
        first: Tensor = next(self.denoiser.parameters())
        return first.dtype

    def predict(self, noisy: Tensor, timesteps: Tensor, prompts: Conditioning, guidance: float = 1.0) -> Tensor:
        """What the process asks of the model: noisy latents (n, channels, h, w), timesteps (n,), n prompts, of the shape of `noisy`."""
        device, dtype = self.device, self.dtype
        made = self.family.predict(self, noisy.to(device, dtype), timesteps.to(device), prompts.to(device, dtype), guidance)
        return made.cpu().float()
