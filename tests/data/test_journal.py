"""A round's journal: what was noted, struck, and is lacking afterwards."""

import time
from pathlib import Path

import pytest

from data import manifests
from data.journal import Journal, lacking, put_back, read_journal
from data.manifests import Manifest
from data.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def finish(store: Store, stage: str, key: str, *blobs: bytes) -> Manifest:
    """Commit a job by hand."""
    outputs = {str(i): store.put(blob, "blob", ".bin") for i, blob in enumerate(blobs)}
    made = Manifest(
        stage=stage, version=1, key=key, parameters={}, outputs=outputs, record={}, libraries={}, threads=1, seconds=0, finished=time.time()
    )
    manifests.write(store, made)
    return made


def test_it_keeps_what_was_noted_last_and_forgets_who_was_struck(store: Store) -> None:
    journal = Journal(store, "demo", 2)
    assert read_journal(store, "demo", 2) == {}
    journal.note("train", {"c1": "k1", "c2": "k2"})
    journal.note("aggregate", {"cluster 0": "k3"})
    journal.note("aggregate", {"cluster 1": "k4"})
    journal.strike("train", ["c2", "never there"])
    assert read_journal(store, "demo", 2) == {"train": {"c1": "k1"}, "aggregate": {"cluster 0": "k3", "cluster 1": "k4"}}
    again = Journal(store, "demo", 2)
    again.note("train", {"c3": "k5"})
    assert read_journal(store, "demo", 2) == {"train": {"c3": "k5"}, "aggregate": {"cluster 0": "k3", "cluster 1": "k4"}}
    again.end()
    assert read_journal(store, "demo", 2) == {"train": {"c3": "k5"}}
    assert read_journal(store, "demo", 1) == {}


def test_jobs_without_a_manifest_or_with_a_damaged_blob_are_lacking(store: Store, tmp_path: Path) -> None:
    finish(store, "train", "done", b"one", b"two")
    hurt = finish(store, "train", "hurt", b"three")
    (tmp_path / hurt.outputs["0"].uri).write_bytes(b"thre")
    keys = {"train": {"c1": "done", "c2": "hurt", "c3": "never"}, "encode": {}}
    assert lacking(store, keys) == {"train": {"c2": "hurt", "c3": "never"}}


def test_a_removed_manifest_leaves_its_blobs(store: Store) -> None:
    made = finish(store, "train", "done", b"one")
    manifests.set_aside(store, "train", "done")
    manifests.set_aside(store, "train", "done")
    assert manifests.read(store, "train", "done") is None
    assert store.get(made.outputs["0"]) == b"one"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"stages": 1}'])
def test_a_damaged_journal_is_an_empty_one(store: Store, tmp_path: Path, content: bytes) -> None:
    Journal(store, "demo", 1).note("train", {"c1": "k1"})
    (tmp_path / "runs" / "demo" / "journal-0001.json").write_bytes(content)
    assert read_journal(store, "demo", 1) == {}


def test_an_execution_that_came_to_nothing_leaves_the_journal_and_the_results_as_they_were(store: Store) -> None:
    journal = Journal(store, "demo", 1)
    journal.note("train", {"c1": "k1", "c2": "k2"})
    had = {key: finish(store, "train", key) for key in ("k1", "k2")}
    for key in had:
        manifests.set_aside(store, "train", key)
    before, again = read_journal(store, "demo", 1), Journal(store, "demo", 1)
    again.note("train", {"c1": "k1", "c2": "other"})
    anew = finish(store, "train", "k1")
    again.strike("train", ["c2"])
    put_back(store, "demo", 1, before)
    assert read_journal(store, "demo", 1) == {"train": {"c1": "k1", "c2": "k2"}}
    assert manifests.read(store, "train", "k1") == anew
    assert manifests.read(store, "train", "k2") == had["k2"]
