"""The caption test: against plain held-out losses, and deaf where the model is."""

import copy
import dataclasses

import pytest
import torch

from fedcore.base import BaseModel
from fedcore.evaluation import heldout_losses
from fedcore.pretraining.assess import CaptionTest, caption_test
from fedcore.prompts import encode
from fedcore.seeds import generator
from fedcore.training import Examples
from tests import tiny

NAMES, WORDS = ["cat", "dog", "cat", "pizza"], ["flat", "soft", "soft", "flat"]
LATENTS = torch.randn(4, *tiny.LATENT, generator=generator(0, "latents"))


def test_the_margin_is_a_share_of_the_wrong_captions_loss() -> None:
    assert CaptionTest(0.3, 0.4).margin == pytest.approx(0.25)


def test_the_right_captions_loss_is_the_held_out_loss(base: BaseModel) -> None:
    made = caption_test(base, LATENTS, NAMES, WORDS, seed=5)
    tokens = encode(base, ["cat, flat", "dog, soft", "cat, soft", "pizza, flat"]).prompts
    given = Examples(LATENTS, torch.full_like(LATENTS, -30.0), tokens)
    assert made.right == pytest.approx(float(heldout_losses(base, given, None, timesteps=8, seed=5).mean()))
    assert made.wrong != made.right


def test_a_model_that_ignores_text_has_no_margin(base: BaseModel) -> None:
    deaf = copy.deepcopy(base.denoiser)
    with torch.no_grad():
        for name, parameter in deaf.named_parameters():
            if "attn2.to_out" in name:
                parameter.zero_()
    made = caption_test(dataclasses.replace(base, denoiser=deaf), LATENTS, NAMES, WORDS, seed=5)
    assert made.right == made.wrong
