"""The trained parts as a pipeline folder: fp16, the averaged weights, complete or refused."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from data.base.assemble import assemble
from fedcore.errors import StoreError
from fedcore.pretraining.autoencoder import new_autoencoder
from fedcore.pretraining.diffusion import TextToLatent, new_denoiser
from fedcore.pretraining.text import new_text_encoder
from fedcore.seeds import isolated
from tests import tiny


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """What the stages of pre-training leave, with random weights."""
    tokenizer = tiny.tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with isolated(0, "parts"):
        new_autoencoder().save_pretrained(tmp_path / "vae-unit")
        model = TextToLatent(new_text_encoder(tokenizer), new_denoiser())
    state = {"step": torch.tensor(77)}
    for name, parameter in model.named_parameters():
        state[f"weight/{name}"], state[f"ema/{name}"] = torch.zeros_like(parameter), parameter.detach().clone()
    save_file(state, tmp_path / "diffusion.safetensors")
    return tmp_path


def test_the_folder_opens_in_diffusers_and_holds_the_averaged_weights_in_half_precision(parts: Path) -> None:
    assert assemble(parts, parts / "weights") == 77
    opened = StableDiffusionPipeline.from_pretrained(parts / "weights", dtype=torch.float16)
    state = load_file(parts / "diffusion.safetensors")
    for part, module in (("unet", opened.unet), ("text_encoder", opened.text_encoder)):
        for name, parameter in module.named_parameters():
            assert torch.equal(parameter, state[f"ema/{part}.{name}"].half()), name
    assert opened.vae.config.scaling_factor == 1.0
    assert json.loads((parts / "weights" / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == "v_prediction"
    weights = sum(f.stat().st_size for f in (parts / "weights").rglob("*.safetensors"))
    assert weights <= 25_000_000


def test_a_checkpoint_that_lacks_a_part_is_refused(parts: Path) -> None:
    state = load_file(parts / "diffusion.safetensors")
    name = "ema/unet.conv_in.weight"
    save_file({n: t for n, t in state.items() if n != name}, parts / "diffusion.safetensors")
    with pytest.raises(StoreError, match=r"lacks unet\.conv_in\.weight"):
        assemble(parts, parts / "weights")
    assert not (parts / "weights").exists()
