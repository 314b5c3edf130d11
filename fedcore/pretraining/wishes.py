"""The text encoder's last lesson: sentences that ask for one look come to lie together, while captions keep their meaning."""

import random
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPTextModel, CLIPTokenizer

from fedcore.families.encoding import meanings
from fedcore.pretraining.captions import STYLE_ONLY, STYLE_WORDS, caption, phrase
from fedcore.seeds import derive

SENTENCES = 10  # for every look, in a batch
CAPTIONS = 96  # in a batch
TEMPERATURE = 0.1
HOLD = 10.0  # weight of what keeps the captions' meaning
STRANGERS, LOST = 0.15, 0.1  # shares of a sentence's words


def contrast(vectors: Tensor, labels: Tensor) -> Tensor:
    """Supervised contrastive loss (arXiv 2004.11362, equation 2) over centred directions.

    `vectors` (n, width) with `labels` (n,), each at least twice; 0 would mean that all of one label coincide, far from the others.
    """
    directions = normalize(vectors - vectors.mean(dim=0), dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool)
    likeness = (directions @ directions.T / TEMPERATURE).masked_fill(itself, -torch.inf).log_softmax(dim=1)
    same = (labels[:, None] == labels[None]) & ~itself
    return -likeness.masked_fill(~same, 0).sum(dim=1).div(same.sum(dim=1)).mean()


def with_strangers(sentence: str, names: Sequence[str], draw: random.Random) -> str:
    """The sentence as an encoder of few words hears a stranger's: some words lost, some names and meaningless sounds between them."""
    words: list[str] = []
    for word in sentence.split():
        if draw.random() < STRANGERS:
            syllables = (draw.choice("bcdfghlmnprstw") + draw.choice("aeiou") for _ in range(draw.randint(1, 3)))
            words.append(draw.choice(names) if draw.random() < 0.5 else "".join(syllables))
        if draw.random() >= LOST:
            words.append(word)
    return " ".join(words) or sentence


def ask_for(look: str, sentences: Sequence[str], names: Sequence[str], draw: random.Random) -> str:
    """One way to ask for a look: half the time one of the `sentences`, otherwise the captions' words for it; mostly disturbed."""
    if draw.random() < 0.5:
        asked = draw.choice(sentences)
    else:
        asked = draw.choice(STYLE_ONLY).format(style=phrase(look, draw), other=phrase(look, draw))
    return with_strangers(asked, names, draw) if draw.random() < 0.7 else asked


def wish_loss(
    student: CLIPTextModel,
    teacher: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    subjects: Sequence[tuple[tuple[str, ...], str]],
    sentences: Mapping[str, Sequence[str]],
    *,
    seed: int,
    rank: int,
) -> Callable[[int], Tensor]:
    """The loss of step `step`: contrast of wishes by look, plus how far the captions' encodings moved from the teacher's.

    An encoder trained with a denoiser alone gives a sentence's mean no order: nothing asks it to. `subjects` are names and
    base style of every training picture, `sentences[look]` what people say who want a look. Odd steps take wishes as
    statements alone, even ones as what a statement adds to a prompt (as `fedcore.prompts.requirement` does). The distance is
    relative to the variance of the teacher's hidden states.

    Raises:
        ValueError: a look of `captions.STYLE_WORDS` has no sentences.
    """
    if lacking := sorted(set(STYLE_WORDS) - set(sentences)):
        raise ValueError(f"no sentences ask for the look {lacking[0]}")
    looks = [*STYLE_WORDS]
    labels = torch.arange(len(looks)).repeat_interleave(SENTENCES)
    names = sorted({names[0] for names, _ in subjects})

    def states(model: CLIPTextModel, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        read = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt")
        hidden: Tensor = model(read.input_ids).last_hidden_state
        return hidden, meanings(hidden, read.attention_mask)

    def loss(step: int) -> Tensor:
        draw = random.Random(derive(seed, "wishes", step, rank))
        drawn = draw.choices(subjects, k=CAPTIONS)
        captions = [caption(called, draw.choice((style, style, draw.choice(looks))), draw) for called, style in drawn]
        with torch.no_grad():
            meant, _ = states(teacher, captions)
        moved = (states(student, captions)[0] - meant).square().mean() / meant.var()
        asked = [ask_for(look, sentences[look], names, draw) for look in looks for _ in range(SENTENCES)]
        if step % 2:
            _, wishes = states(student, asked)
        else:
            beside = draw.choices(names, k=len(asked))
            _, both = states(student, [f"{name}, {wish}" for name, wish in zip(beside, asked, strict=True)])
            wishes = both - states(student, beside)[1]
        return contrast(wishes, labels) + HOLD * moved

    return loss
