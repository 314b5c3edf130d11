"""The tokenizer keeps CLIP's rules and survives being saved; the text encoder pools where CLIP does."""

from pathlib import Path

import torch
from transformers import CLIPTokenizer

from fedcore.pretraining.text import TOKENS, VOCABULARY, WIDTH, train_tokenizer
from tests import tiny


def test_the_tokenizer_keeps_clips_rules_and_its_ids_when_saved(tmp_path: Path) -> None:
    made = tiny.tokenizer()
    ids = made(["A  Cat", "a cat", "pizza!"], padding="max_length", truncation=True).input_ids
    assert ids[0] == ids[1]
    assert ids[0][0] == made.bos_token_id
    assert made.eos_token_id in ids[0]
    assert all(len(row) == TOKENS for row in ids)
    assert made.eos_token_id == len(made) - 1 < VOCABULARY
    assert "cat" in made.decode(ids[0], skip_special_tokens=True)
    made.save_pretrained(tmp_path)
    opened = CLIPTokenizer.from_pretrained(tmp_path)
    assert opened(["A  Cat", "a cat", "pizza!"], padding="max_length", truncation=True).input_ids == ids


def test_the_same_captions_give_the_same_tokenizer() -> None:
    """Every pair of letters is as frequent as every other: nothing but the rule for ties decides."""
    captions = [a + b for a in "abcdefgh" for b in "stuvwxyz"] * 2
    first, *others = (train_tokenizer(captions).backend_tokenizer.to_str() for _ in range(5))
    assert others == [first] * 4


def test_any_text_can_be_written_in_its_letters() -> None:
    made = tiny.tokenizer()
    for text in ("zyx", "ünïcödé", "日本"):
        ids = made(text).input_ids
        assert made.unk_token_id not in ids[1:-1]
        assert made.decode(ids, skip_special_tokens=True).replace(" ", "") == text


@torch.no_grad()
def test_what_stands_after_the_end_changes_nothing_before_it() -> None:
    """Causal attention: padding cannot reach back."""
    encoder, tokenizer = tiny.text_encoder(), tiny.tokenizer()
    short = tokenizer("a cat", return_tensors="pt").input_ids
    long = tokenizer("a cat", padding="max_length", return_tensors="pt").input_ids
    a, b = encoder(short).last_hidden_state, encoder(long).last_hidden_state[:, : short.shape[1]]
    assert a.shape[-1] == WIDTH
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
