"""Every style has one use, so that no client's style trains the base model."""

import pyarrow.parquet as pq
import pytest

from data.emoji.pack import FOLDER, base_drawings
from data.emoji.styles import STYLES, Style


def test_base_user_and_reserve_styles_are_disjoint() -> None:
    of = {role: {s.name for s in STYLES if s.role == role} for role in ("base", "user", "reserve")}
    assert [len(names) for names in of.values()] == [6, 4, 2]
    assert len({s.name for s in STYLES}) == len({s.package for s in STYLES}) == 12


def test_the_base_is_trained_on_base_styles_only() -> None:
    assert {d.style for d in base_drawings()} == {s.name for s in STYLES if s.role == "base"}


def test_every_style_has_its_file_and_every_file_a_style() -> None:
    assert {p.stem for p in FOLDER.glob("*.parquet")} == {s.name for s in STYLES}


@pytest.mark.parametrize("style", STYLES, ids=lambda s: s.name)
def test_a_file_carries_its_role_licence_author_and_source(style: Style) -> None:
    written = {k.decode(): v.decode() for k, v in pq.read_schema(FOLDER / f"{style.name}.parquet").metadata.items()}
    for field in ("role", "licence", "author", "source"):
        assert written[field] == getattr(style, field)
    assert written["style"] == style.name
