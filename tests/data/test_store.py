"""The store: content names blobs, damage is found, and nothing is ever half-written."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from data.store import Ref, Store, without_locations, write_atomically
from fedcore.errors import StoreError


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store on a folder, and one on another fsspec file system."""
    return Store(tmp_path / "store" if request.param == "folder" else f"memory://{tmp_path.name}/{request.node.name}")


def broken_fsync(_: Any) -> None:
    raise OSError(28, "No space left on device")


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_blob_is_named_by_its_content_and_comes_back(store: Store) -> None:
    digest = hashlib.sha256(b"adapter").hexdigest()
    ref = store.put(b"adapter", "adapter", ".safetensors")
    assert ref == Ref(uri=f"blobs/{digest[:2]}/{digest}.safetensors", sha256=digest, kind="adapter", bytes=7)
    assert store.get(ref) == b"adapter"
    assert store.holds(ref)


def test_equal_content_is_stored_once_and_not_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.local_path(store.put(b"same", "x", ".bin"))
    written = path.stat().st_ino
    assert store.local_path(store.put(b"same", "x", ".bin")).stat().st_ino == written
    store.put(b"other", "x", ".bin")
    assert len(files(tmp_path / "blobs")) == 2


def test_a_damaged_blob_is_found_by_its_hash_and_healed_by_storing_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ref = store.put(b"weights", "adapter", ".bin")
    store.local_path(ref).write_bytes(b"weighty")
    assert not store.holds(ref)
    with pytest.raises(StoreError, match=rf"^adapter {ref.sha256[:12]} in .* is damaged; run `fedcore resume`"):
        store.get(ref)
    store.put(b"weights", "adapter", ".bin")
    assert store.get(ref) == b"weights"


def test_a_missing_blob_is_named(store: Store) -> None:
    ref = Ref(uri="blobs/00/00", sha256="0" * 64, kind="gallery", bytes=1)
    assert not store.holds(ref)
    with pytest.raises(StoreError, match=r"^gallery 000000000000 is missing from .*; run `fedcore resume`"):
        store.get(ref)


def test_a_store_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    Store(tmp_path)
    assert (tmp_path / "format").read_text() == "1\n"
    Store(tmp_path)
    (tmp_path / "format").write_text("2\n")
    with pytest.raises(StoreError, match="store format 2, this version reads format 1"):
        Store(tmp_path)


def test_named_texts_are_replaced_and_listed(store: Store) -> None:
    assert store.read_text("runs/b/x.json") is None
    assert store.children("runs") == []
    for name, text in (("b", "old"), ("a", "ä"), ("b", "new")):
        store.write_text(f"runs/{name}/x.json", text)
    assert (store.read_text("runs/a/x.json"), store.read_text("runs/b/x.json")) == ("ä", "new")
    assert store.children("runs") == ["a", "b"]


def test_a_write_that_fails_leaves_the_old_content_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.write_text("runs/demo.json", "old")
    before = files(tmp_path)
    monkeypatch.setattr(os, "fsync", broken_fsync)
    with pytest.raises(OSError, match="No space left"):
        store.write_text("runs/demo.json", "new")
    with pytest.raises(OSError, match="No space left"):
        store.put(b"blob", "x", ".bin")
    assert files(tmp_path) == before
    assert store.read_text("runs/demo.json") == "old"


def test_a_write_to_a_path_that_is_a_folder_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_atomically(tmp_path / "taken", b"x")
    assert files(tmp_path) == []


def test_keys_see_the_content_of_a_reference_and_not_its_place(tmp_path: Path) -> None:
    ref = Store(tmp_path).put(b"x", "x", ".bin").model_dump()
    value = {"lr": 1.0, "adapters": [ref, (ref,)], "uri": "kept"}
    assert without_locations(value) == {"lr": 1.0, "adapters": [ref["sha256"], [ref["sha256"]]], "uri": "kept"}
