"""Captions name what they should, as often as they should."""

import random
from functools import lru_cache
from itertools import product

import pytest

from fedcore.pretraining.captions import PLAIN_LOOK, STYLE_WORDS, caption
from fedcore.pretraining.pictures import VARIANTS

NAMES = ("zebra", "horse with stripes")
BASE_LOOKS = sorted(set(STYLE_WORDS) - set(VARIANTS))


def captions(look: str, n: int = 2000) -> list[str]:
    draw = random.Random(0)
    return [caption(NAMES, look, draw) for _ in range(n)]


@lru_cache
def phrases(look: str) -> frozenset[str]:
    """All that can be said of a look, every alternative of every phrase."""
    ways = (" ".join(words).replace("_", " ") for p in STYLE_WORDS[look] for words in product(*(w.split("|") for w in p.split())))
    return frozenset(ways)


def has_style(text: str, look: str) -> bool:
    """In either spelling."""
    said = text.replace("color", "colour").replace("gray", "grey")
    return any(phrase in said for phrase in phrases(look))


def has_name(text: str) -> bool:
    return any(name in text for name in NAMES)


@pytest.mark.parametrize("look", sorted(VARIANTS))
def test_a_drawn_variant_always_names_its_look(look: str) -> None:
    assert all(has_style(text, look) for text in captions(look))


@pytest.mark.parametrize("look", BASE_LOOKS)
def test_shares_of_captions(look: str) -> None:
    """Two thousand draws: standard errors are below 0.012."""
    texts = captions(look)
    share = {
        "empty": sum(t == "" for t in texts),
        "style alone": sum(has_style(t, look) and not has_name(t) for t in texts),
        "both": sum(has_style(t, look) and has_name(t) for t in texts),
        "name alone": sum(has_name(t) and not has_style(t, look) for t in texts),
        "first name": sum("zebra" in t for t in texts),
    }
    plain = 0.6 if look == PLAIN_LOOK else 0.0
    want = {"empty": 0.1, "style alone": 0.1, "both": 0.8 - plain, "name alone": plain, "first name": 0.8 * 0.65}
    assert {k: n / 2000 for k, n in share.items()} == pytest.approx(want, abs=0.04)


def test_the_draw_alone_decides() -> None:
    assert captions("fluent", 50) == captions("fluent", 50)
