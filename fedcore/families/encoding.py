"""How texts become tokens, and hidden states meanings: what families with encoders of CLIP's kind share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fedcore.base import BaseModel, Conditioning, Encoded

if TYPE_CHECKING:
    from transformers import BatchEncoding

BATCH = 64
"""Texts at a time."""


def meanings(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of hidden `states` (n, tokens, width) over each text's own and end tokens, which `mask` (n, tokens) marks: (n, width)."""
    own = mask.clone()
    own[:, 0] = 0  # the start token is the same for all texts
    return (states * own[:, :, None]).sum(dim=1) / own.sum(dim=1, keepdim=True)


def tokenised(base: BaseModel, which: int, texts: Sequence[str], length: int | None = None) -> BatchEncoding:
    """Token ids and mask by the base's tokenizer `which`, cut and filled to the encoder's context or to `length`, on the base's device."""
    read = base.tokenizers[which](list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return read.to(base.device)


def batched(encode: Any, texts: Sequence[str]) -> Encoded:
    """`encode(part) -> Encoded` over parts of the texts, put together."""
    parts = [encode(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    prompts: Conditioning = parts[0].prompts
    for part in parts[1:]:
        prompts = prompts.followed_by(part.prompts)
    return Encoded(prompts.to(torch.device("cpu"), torch.float32), torch.cat([part.meanings for part in parts]).cpu())


def of_empty(base: BaseModel) -> Conditioning:
    """The encoding of the empty text."""
    return base.family.encode(base, [""]).prompts
