"""Does the base listen to its captions? Loss with the right caption against the loss with another subject's, on fixed noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcore.base import BaseModel
from fedcore.evaluation import heldout_losses
from fedcore.prompts import encode
from fedcore.seeds import generator
from fedcore.training import Examples


@dataclass(frozen=True)
class CaptionTest:
    """Mean losses over pictures; `margin` is how far the right caption's lies below the wrong one's, as a share of the wrong one's."""

    right: float
    wrong: float

    @property
    def margin(self) -> float:
        """1 − right / wrong."""
        return 1 - self.right / self.wrong


def caption_test(base: BaseModel, latents: Tensor, names: Sequence[str], style_words: Sequence[str], *, seed: int) -> CaptionTest:
    """`latents` (n, c, h, w) of pictures of subjects `names`, drawn as `style_words` say.

    The wrong caption names another subject of the list, in the same style words.
    """
    n = len(names)
    distinct = sorted(set(names))
    shuffled = [distinct[i] for i in torch.randperm(len(distinct), generator=generator(seed, "wrong captions"))]
    other = dict(zip(shuffled, shuffled[1:] + shuffled[:1], strict=True))

    def loss(captions: Sequence[str]) -> float:
        examples = Examples(latents, torch.full_like(latents, -30.0), encode(base, captions).prompts)
        return float(heldout_losses(base, examples, None, timesteps=8, seed=seed).mean())

    right = [f"{name}, {words}" for name, words in zip(names, style_words, strict=True)]
    wrong = [f"{other[names[i]]}, {style_words[i]}" for i in range(n)]
    return CaptionTest(loss(right), loss(wrong))
