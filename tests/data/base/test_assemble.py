"""The trained parts as a pipeline folder: fp16, from the last stage of each."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from data.base.assemble import assemble
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
    model.text_encoder.save_pretrained(tmp_path / "text_encoder-wishes")
    model.unet.save_pretrained(tmp_path / "unet")
    return tmp_path


def test_the_folder_opens_in_diffusers_and_holds_the_weights_in_half_precision(parts: Path) -> None:
    assemble(parts, parts / "weights")
    opened = StableDiffusionPipeline.from_pretrained(parts / "weights", dtype=torch.float16)
    for part, module in (("unet", opened.unet), ("text_encoder-wishes", opened.text_encoder)):
        state = {name: value.half() for folder in (parts / part).glob("*.safetensors") for name, value in load_file(folder).items()}
        assert all(torch.equal(parameter, state[name]) for name, parameter in module.named_parameters())
    assert opened.vae.config.scaling_factor == 1.0
    assert json.loads((parts / "weights" / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == "v_prediction"
    weights = sum(f.stat().st_size for f in (parts / "weights").rglob("*.safetensors"))
    assert weights <= 25_000_000
    assert not [f for f in (parts / "weights").rglob("*.json") if str(parts) in f.read_text()]  # the same weights anywhere
