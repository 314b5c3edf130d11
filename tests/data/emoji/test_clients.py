"""The demo's clients: made from the pack, byte for byte, without overlap between splits, clients and what is kept unseen."""

import io
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from data.clients import Client, load_client
from data.emoji.clients import PERSONAS, Persona, main, write_client
from data.emoji.pack import drawings

DEMO = Path(__file__).parents[3] / "federations" / "demo"
IDS = [p.id for p in PERSONAS]


def shown(png: bytes) -> bytes:
    return Image.open(io.BytesIO(png)).tobytes()


@pytest.fixture(scope="module")
def clients() -> dict[str, Client]:
    """All demo clients, as committed."""
    return {name: load_client(name, DEMO) for name in IDS}


def test_the_committed_files_are_made_again_byte_for_byte(tmp_path: Path) -> None:
    main(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {p.name: p.read_bytes() for p in DEMO.iterdir()}


@pytest.mark.parametrize("persona", PERSONAS, ids=IDS)
def test_a_client_is_what_its_persona_says(clients: dict[str, Client], persona: Persona) -> None:
    mine = clients[persona.id]
    counts = Counter(row.split for row in mine.rows)
    assert counts == {"train": persona.pictures, "tune": 8, "test": 16}
    assert 16 <= counts["train"] <= 48
    assert (mine.statement, mine.device, mine.group) == (persona.statement, persona.device, persona.style)
    drawn = {(shown(d.png), d.names[0]) for d in drawings(persona.style) if d.category == persona.category and not d.unseen}
    assert all((shown(row.image), row.prompt) in drawn for row in mine.rows)


@pytest.mark.parametrize("name", IDS)
def test_splits_are_disjoint_by_pixels(clients: dict[str, Client], name: str) -> None:
    splits: dict[bytes, list[str]] = defaultdict(list)
    for row in clients[name].rows:
        splits[shown(row.image)].append(f"{row.split}: {row.prompt}")
    assert [where for where in splits.values() if len({w.split(":")[0] for w in where}) > 1] == []


@pytest.mark.parametrize("name", IDS)
def test_no_client_has_an_unseen_subject_by_name_or_by_pixels(clients: dict[str, Client], name: str) -> None:
    unseen = [d for d in drawings(str(clients[name].group)) if d.unseen]
    assert {row.prompt for row in clients[name].rows} & {d.names[0] for d in unseen} == set()
    assert {shown(row.image) for row in clients[name].rows} & {shown(d.png) for d in unseen} == set()


def test_clients_of_one_style_share_no_subject_and_no_picture(clients: dict[str, Client]) -> None:
    for one, other in combinations(clients.values(), 2):
        if one.group == other.group:
            assert {row.prompt for row in one.rows} & {row.prompt for row in other.rows} == set()
            assert {shown(row.image) for row in one.rows} & {shown(row.image) for row in other.rows} == set()


@pytest.mark.parametrize("name", IDS)
def test_a_client_has_every_subject_once(clients: dict[str, Client], name: str) -> None:
    assert max(Counter(row.prompt for row in clients[name].rows).values()) == 1


def test_a_persona_that_wants_more_than_the_pack_has_is_refused(tmp_path: Path) -> None:
    greedy = Persona("c99", "streamline", "Food & Drink", 500, "phone", "everything")
    with pytest.raises(ValueError, match=r"c99 needs 524 pictures, the pack has \d+ pictures of Food & Drink in streamline"):
        write_client(greedy, tmp_path)
