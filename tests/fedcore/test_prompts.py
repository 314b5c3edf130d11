"""Encodings equal those of the text encoder called by hand."""

from collections.abc import Sequence

import numpy as np
import torch

from fedcore.base import BaseModel
from fedcore.families.encoding import BATCH
from fedcore.prompts import LOOKS, THINGS, encode, requirement

TEXTS = ["a cat", "a red house in soft pastel colours", "", "pizza"]


def by_hand(base: BaseModel, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """One text on its own: start, its tokens, end, and the end token again up to 32; pooled over its tokens and the first end."""
    ids = [base.tokenizers[0].bos_token_id, *base.tokenizers[0](text, add_special_tokens=False).input_ids, base.tokenizers[0].eos_token_id]
    end = len(ids) - 1
    with torch.no_grad():
        states = base.text_encoders[0](torch.tensor([ids + [base.tokenizers[0].eos_token_id] * (32 - len(ids))])).last_hidden_state[0]
    return states, states[1 : end + 1].mean(dim=0)


def test_encodings_are_the_last_states_and_their_mean_without_start_and_padding(base: BaseModel) -> None:
    encoded = encode(base, TEXTS)
    assert encoded.prompts.tokens.shape == (4, 32, 128)
    for i, text in enumerate(TEXTS):
        tokens, pooled = by_hand(base, text)
        torch.testing.assert_close(encoded.prompts.tokens[i], tokens)
        torch.testing.assert_close(encoded.meanings[i], pooled)


def test_batches_change_nothing_but_rounding(base: BaseModel) -> None:
    torch.testing.assert_close(encode(base, TEXTS[:1]).prompts.tokens, encode(base, TEXTS).prompts.tokens[:1])
    torch.testing.assert_close(encode(base, ["pizza"] * BATCH + TEXTS).meanings[BATCH:], encode(base, TEXTS).meanings)


def test_long_texts_are_cut_to_the_context(base: BaseModel) -> None:
    """Thirty words fill the 32 tokens with start and end; what follows falls away."""
    thirty = " ".join(["cat"] * 30)
    assert torch.equal(encode(base, [f"{thirty} pizza house"]).prompts.tokens, encode(base, [thirty]).prompts.tokens)
    assert not torch.equal(encode(base, [" ".join(["cat"] * 29 + ["pizza"])]).prompts.tokens, encode(base, [thirty]).prompts.tokens)


def wish(base: BaseModel, statement: str, prompts: Sequence[str]) -> np.ndarray:
    """The statement alone, plus what it adds to each prompt on average."""
    added = [by_hand(base, f"{p}, {statement}")[1] - by_hand(base, p)[1] for p in prompts]
    return (by_hand(base, statement)[1] + torch.stack(added).mean(dim=0)).double().numpy()


def test_requirements_are_unit_vectors_whitened_by_the_public_looks(base: BaseModel) -> None:
    """By the eigenvectors of the looks' covariance, whose signs are free: hence the angles between clients are compared."""
    looks = np.stack([wish(base, look, THINGS) for look in LOOKS])
    variance, axes = np.linalg.eigh(np.cov(looks.T, bias=True))
    variance, axes = variance[::-1][:16], axes[:, ::-1][:, :16]
    clients = [("black line art", ["a cat", "pizza"]), ("soft pastel colours", ["a dog"]), ("i like cats", ["a red house"])]
    want = np.stack([(wish(base, *c) - looks.mean(axis=0)) @ axes / np.sqrt(variance + 0.2 * variance[0]) for c in clients])
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    got = torch.stack([requirement(base, *c) for c in clients])
    assert (got.shape, got.dtype) == ((3, 16), torch.float32)
    np.testing.assert_allclose((got @ got.T).numpy(), want @ want.T, atol=2e-3)
    assert np.abs(want @ want.T - np.eye(3)).max() > 0.05
