"""Building the pack: what an SVG becomes, whose drawing counts as a subject's, which subjects nobody sees."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from data.emoji.build import draw, drawings, slug, unseen_subjects

RED = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100"><rect x="70" y="10" width="20" height="10" fill="#f00"/></svg>'


def test_a_drawing_is_cropped_centred_on_white_and_fills_the_canvas() -> None:
    pixels = np.asarray(Image.open(io.BytesIO(draw(RED)))).astype(int)
    assert pixels.shape == (64, 64, 3)
    red = np.argwhere(pixels[:, :, 1] < 128)
    (top, left), (bottom, right) = red.min(axis=0), red.max(axis=0)
    assert right - left + 1 >= 58  # the longer side, between margins of two pixels
    assert abs((top + bottom) - 63) <= 2
    assert abs((left + right) - 63) <= 2
    assert abs((right - left + 1) - 2 * (bottom - top + 1)) <= 3
    assert (pixels[0] == 255).all()


def test_an_empty_drawing_is_nothing() -> None:
    assert draw('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"></svg>') == b""


def test_icons_are_found_by_any_of_their_names_and_by_plain_aliases(tmp_path: Path) -> None:
    icons = {
        "width": 10,
        "icons": {"hotdog": {"body": "<a/>"}, "sun1": {"body": "<b/>", "width": 20}},
        "aliases": {"puppy": {"parent": "hotdog"}, "flipped": {"parent": "hotdog", "hFlip": True}},
    }
    (tmp_path / "icons.json").write_text(json.dumps(icons))
    wanted = {s: {"keys": keys} for s, keys in {"hot-dog": ["hot-dog"], "sun": ["sun"], "dog": ["pup-py"], "cat": ["flipped"]}.items()}
    found = drawings(tmp_path, wanted)
    assert sorted(found) == ["dog", "hot-dog", "sun"]  # an alias that turns the picture is another drawing
    assert "<a/>" in found["dog"]
    assert 'viewBox="0 0 20 16"' in found["sun"]
    assert 'viewBox="0 0 10 16"' in found["hot-dog"]


def test_unseen_subjects_consist_of_words_that_others_teach() -> None:
    colours, things = ("red", "blue", "green", "pink"), ("heart", "book", "car", "square")
    about = {f"{c}-{t}": {"prompt": f"{c} {t}"} for c in colours for t in things} | {"cat": {"prompt": "cat"}, "odd": {"prompt": "odd one"}}
    held = unseen_subjects(about)
    assert held
    kept = {word for subject, entry in about.items() if subject not in held for word in entry["prompt"].split()}
    assert all(word in kept for subject in held for word in about[subject]["prompt"].split())
    assert not held & {"cat", "odd"}


def test_slugs() -> None:
    assert slug("Hot Dog!") == "hot-dog"
