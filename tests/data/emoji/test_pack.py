"""The emoji pack keeps its promises about pictures, subjects and what nobody has seen."""

import io
from collections import defaultdict
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from data.emoji.pack import Drawing, drawings, pixels
from data.emoji.styles import STYLES

NAMES = [s.name for s in STYLES]


@cache
def pack(style: str) -> list[Drawing]:
    return drawings(style)


def everything() -> list[Drawing]:
    return [d for style in NAMES for d in pack(style)]


@pytest.mark.parametrize("style", NAMES)
def test_every_picture_is_a_64_pixel_rgb_png_on_white(style: str) -> None:
    for drawing in pack(style):
        image = Image.open(io.BytesIO(drawing.png))
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 64))
        assert {image.getpixel((0, 0)), image.getpixel((63, 63)), image.getpixel((0, 63)), image.getpixel((63, 0))} == {(255, 255, 255)}


@pytest.mark.parametrize("style", NAMES)
def test_every_subject_occurs_once_with_a_name_and_a_category(style: str) -> None:
    subjects = [d.subject for d in pack(style)]
    assert subjects == sorted(set(subjects))
    assert all(d.category and all(d.names) and d.names[0] not in d.names[1:] for d in pack(style))


def test_a_subject_has_the_same_names_category_and_unseen_flag_in_all_styles() -> None:
    about: dict[str, set[object]] = defaultdict(set)
    for d in everything():
        about[d.subject].add((d.names, d.category, d.unseen))
    assert {subject: facts for subject, facts in about.items() if len(facts) > 1} == {}


def test_sixty_four_subjects_are_unseen() -> None:
    assert len({d.subject for d in everything() if d.unseen}) == 64


def test_every_word_of_an_unseen_subject_is_known_from_two_seen_ones() -> None:
    seen: dict[str, set[str]] = defaultdict(set)
    for d in everything():
        if not d.unseen:
            for word in d.names[0].split():
                seen[word].add(d.subject)
    words = {word for d in everything() if d.unseen for word in d.names[0].split()}
    assert {word for word in words if len(seen[word]) < 2} == set()


@pytest.mark.parametrize("style", NAMES)
def test_no_unseen_picture_can_be_seen_under_another_subjects_name(style: str) -> None:
    shown: dict[bytes, set[tuple[bool, str]]] = defaultdict(set)
    for d in pack(style):
        shown[Image.open(io.BytesIO(d.png)).tobytes()].add((d.unseen, d.subject))
    assert [sorted(s) for s in shown.values() if len({unseen for unseen, _ in s}) > 1] == []


def test_pixels_are_pillows_channels_first() -> None:
    pngs = [d.png for d in pack("noto")[:3]]
    made = pixels(pngs)
    assert (made.shape, made.dtype, made.is_contiguous()) == ((3, 3, 64, 64), torch.uint8, True)
    np.testing.assert_array_equal(made[1].permute(1, 2, 0).numpy(), np.asarray(Image.open(io.BytesIO(pngs[1]))))
