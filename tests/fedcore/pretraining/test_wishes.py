"""The text encoder's last lesson: the contrast against its formula, and that wishes part while captions stay."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fedcore.pretraining.captions import STYLE_WORDS
from fedcore.pretraining.text import new_text_encoder
from fedcore.pretraining.wishes import LOST, STRANGERS, TEMPERATURE, contrast, wish_loss, with_strangers
from fedcore.seeds import generator, isolated
from tests import tiny

SUBJECTS = [(("cat", "house cat"), "noto"), (("dog",), "fluent"), (("house",), "twemoji")]
SENTENCES = {look: (f"{words[0].split('|')[0]} everywhere",) for look, words in STYLE_WORDS.items()}


def test_the_contrast_is_the_mean_over_positives_outside_the_logarithm() -> None:
    """Equation 2 of arXiv 2004.11362, in loops and float64."""
    vectors, labels = torch.randn(9, 5, generator=generator(0)), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    z = normalize(vectors - vectors.mean(dim=0), dim=1).double().numpy()
    total = 0.0
    for i in range(9):
        scores = {a: float(np.dot(z[i], z[a])) / TEMPERATURE for a in range(9) if a != i}
        norm = math.log(sum(math.exp(s) for s in scores.values()))
        positives = [a for a in scores if labels[a] == labels[i]]
        total -= sum(scores[a] - norm for a in positives) / len(positives)
    assert float(contrast(vectors, labels)) == pytest.approx(total / 9, rel=1e-5)


def test_strangers_words_come_and_own_words_go_in_the_stated_shares() -> None:
    draw, own = random.Random(0), ["only", "thin", "black", "lines"]
    heard = [with_strangers(" ".join(own), ["cat"], draw).split() for _ in range(1000)]
    kept = sum(word in own for words in heard for word in words)
    strangers = sum(word not in own for words in heard for word in words)
    assert kept / 4000 == pytest.approx(1 - LOST, abs=0.02)
    assert strangers / 4000 == pytest.approx(STRANGERS, abs=0.02)
    assert all(heard)
    assert any("cat" in words for words in heard)


def test_wishes_part_while_captions_keep_their_meaning() -> None:
    tokenizer = tiny.tokenizer()
    with isolated(0, "wishes"):
        teacher = new_text_encoder(tokenizer).eval().requires_grad_(False)
    student = copy.deepcopy(teacher).requires_grad_(True)
    before = {name: value.clone() for name, value in teacher.named_parameters()}
    loss = wish_loss(student, teacher, tokenizer, SUBJECTS, SENTENCES, seed=0, rank=0)

    def at(step: int) -> float:
        return loss(step).item()

    assert at(3) == at(3) != at(5)
    first = [at(1000), at(1001)]
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    for step in range(20):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    assert at(1000) < first[0]
    assert at(1001) < first[1]
    assert all(torch.equal(value, before[name]) for name, value in teacher.named_parameters())


def test_a_look_that_nobody_asks_for_is_refused() -> None:
    encoder = new_text_encoder(tiny.tokenizer())
    few = {look: said for look, said in SENTENCES.items() if look != "grey"}
    with pytest.raises(ValueError, match="the look grey"):
        wish_loss(encoder, encoder, tiny.tokenizer(), SUBJECTS, few, seed=0, rank=0)
