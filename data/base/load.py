"""Opens a base model's folder, once per process, with clear words for what may be wrong with it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.models.attention_processor import AttnProcessor
from safetensors import SafetensorError
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.utils import logging as transformers_logging

from data.base.folder import base_folder, described_folder, digest, family_of, index_of, insist_on_weights, parts_of, sampler_of
from data.base.shared import share
from data.home import Home
from fedcore.base import SAMPLER, BaseModel, Device, Precision
from fedcore.errors import BaseModelError, InputError

PREDICTIONS = ("epsilon", "v_prediction")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _whole(part: str, kind: str, folder: Path, dtype: torch.dtype) -> Any:
    """A part; of a model, every weight was in its file: the libraries would make up what is missing.

    Raises:
        ValueError: a weight is missing.
    """
    if part.startswith("tokenizer"):
        return getattr(transformers, kind).from_pretrained(folder / part)
    if part == "scheduler":
        return getattr(diffusers, kind).from_pretrained(folder / part)
    library, name = (transformers, "dtype") if part.startswith("text_encoder") else (diffusers, "torch_dtype")
    options = {"use_safetensors": True, "output_loading_info": True, name: torch.float32 if part == "vae" else dtype}
    model, report = getattr(library, kind).from_pretrained(folder / part, **options)
    if report["missing_keys"]:
        raise ValueError(f"{part} lacks {min(report['missing_keys'])} and {len(report['missing_keys']) - 1} other weights")
    return model.requires_grad_(False).eval()


@contextmanager
def _words(name: str, folder: Path) -> Iterator[None]:
    """One line for whatever the libraries find wrong with a part."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise BaseModelError(f"base '{name}': {folder} cannot be opened ({str(error).splitlines()[0]})") from None


def device_of(device: Device) -> torch.device:
    """The device that is meant here.

    Raises:
        InputError: there is none of this kind.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    if not there[device]:
        raise InputError(f"device '{device}': there is none here; set device to {' or '.join(kind for kind, yes in there.items() if yes)}")
    return torch.device(device)


def load_base(name: str, precision: Precision = "fp32", device: Device = "auto") -> BaseModel:
    """The base in evaluation mode, frozen; the last one that was opened stays open.

    Raises:
        BaseModelError: a part is missing, damaged or of another kind.
        InputError: there is no such device.
    """
    return _loaded(name, precision, device_of(device))


@lru_cache(maxsize=1)
def _loaded(name: str, precision: Precision, device: torch.device) -> BaseModel:
    folder = base_folder(name)
    family, parts = family_of(folder), parts_of(folder)
    transformers_logging.disable_progress_bar()
    with _words(name, folder):
        made = {part: _whole(part, family.parts[part], folder, DTYPES[precision]) for part in parts}
    if "EDM" in sampler_of(folder):
        raise BaseModelError(f"base '{name}': it was trained with the noise of {sampler_of(folder)}, which Fedcore does not know")
    prediction = made["scheduler"].config.get("prediction_type")
    if prediction not in (None, *PREDICTIONS):
        raise BaseModelError(f"base '{name}': it predicts '{prediction}', only {' and '.join(PREDICTIONS)} are known")
    if family.denoiser == "unet" and device.type == "cpu":
        made["unet"].to(memory_format=torch.channels_last)  # a training step is 17 to 21 % faster, pictures 25 to 34 %
    made = {part: each.to(device) if isinstance(each, torch.nn.Module) else each for part, each in made.items()}
    base = _put_together(folder, made, digest(folder), device)
    if device.type == "cpu":
        share((*base.text_encoders, base.vae, base.denoiser), Home.current().bases / f"{base.digest}-{precision}")
    return base


def _put_together(folder: Path, made: Mapping[str, Any], weights: str, device: torch.device) -> BaseModel:
    """The parts as one."""
    family = family_of(folder)
    if family.denoiser == "unet" and device.type == "cpu":
        made["unet"].set_attn_processor(AttnProcessor())  # a training step is 27 % faster than with fused attention
    return BaseModel(
        family,
        tuple(made[part] for part in made if part.startswith("tokenizer")),
        tuple(made[part] for part in made if part.startswith("text_encoder")),
        made["vae"],
        made[family.denoiser],
        made["scheduler"],
        family.process(made["scheduler"]),
        weights,
        {key: value for key, value in index_of(folder).items() if key not in family.parts} | {SAMPLER: sampler_of(folder)},
    )


@contextmanager
def imagined(name: str, precision: Precision = "fp32", device: Device = "auto") -> Iterator[BaseModel]:
    """The base inside the block, with the shapes of its tensors and without their values: nothing is read but configurations.

    Raises:
        BaseModelError: a part is missing or of another kind.
        InputError: there is no such device.
    """
    folder, there, mode = described_folder(name), device_of(device), FakeTensorMode(allow_non_fake_inputs=True)
    family, usual = family_of(folder), torch.get_default_dtype()
    made: dict[str, Any] = {}
    for part in parts_of(folder):
        with _words(name, folder):
            of_transformers = part.startswith(("text_encoder", "tokenizer"))
            kind = getattr(transformers if of_transformers else diffusers, family.parts[part])
            if part.startswith("tokenizer") or part == "scheduler":
                made[part] = kind.from_pretrained(folder / part)
                continue
            torch.set_default_dtype(torch.float32 if part == "vae" else DTYPES[precision])
            try:
                with mode:
                    if of_transformers:
                        made[part] = kind(kind.config_class.from_pretrained(folder / part))
                    else:
                        made[part] = kind.from_config(kind.load_config(folder / part))
            finally:
                torch.set_default_dtype(usual)
    with mode:
        yield _put_together(folder, made, "", there)  # they lie nowhere, but attention is that of the device


def forget_base() -> None:
    """Let go of the base that is open."""
    _loaded.cache_clear()


def load_exact(name: str, weights: str, precision: Precision = "fp32", device: Device = "auto") -> BaseModel:
    """The base, whose digest must be `weights`: client and server must mean the same model.

    Raises:
        BaseModelError: it holds other weights, or cannot be opened.
        InputError: there is no such device.
    """
    base = load_base(name, precision, device)
    insist_on_weights(name, base.digest, weights)
    return base
