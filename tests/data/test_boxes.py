"""Letter boxes: what is left is taken once, by its box alone."""

from pathlib import Path

from data.boxes import leave, take
from data.store import Store


def test_outcomes_are_taken_once_and_only_from_their_box(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert take(store, "a", 100) == {}
    leave(store, "a", "c1", '{"x": 1}')
    leave(store, "a", "c2", "{}")
    leave(store, "b", "c1", "other")
    assert take(store, "a", 100) == {"c1": '{"x": 1}', "c2": "{}"}
    assert take(store, "a", 100) == {}
    leave(store, "a", "c3", "late")
    assert take(store, "a", 100) == {"c3": "late"}
    assert take(store, "b", 100) == {"c1": "other"}


def test_a_half_written_letter_is_not_taken(tmp_path: Path) -> None:
    store = Store(tmp_path)
    leave(store, "a", "c1", "{}")
    (tmp_path / "boxes" / "a" / ".part-xyz").write_text("half")
    assert take(store, "a", 100) == {"c1": "{}"}
