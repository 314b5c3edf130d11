"""A stage counts as done while its manifest and all its blobs are there, intact."""

from pathlib import Path

import pytest

from data.manifests import Manifest, path, read, restore, set_aside, write
from data.store import Ref, Store


def manifest(**outputs: Ref) -> Manifest:
    return Manifest(
        stage="train",
        version=1,
        key="k" * 64,
        parameters={"lr": 1e-3},
        outputs=outputs,
        record={"losses": [1.0, 0.5]},
        libraries={"torch": "2"},
        threads=1,
        seconds=0.5,
        finished=1e9,
    )


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = manifest(adapter=store.put(b"a", "adapter", ".bin"), log=store.put(b"b", "log", ".txt"))
    assert read(store, "train", made.key) is None
    write(store, made)
    assert read(store, "train", made.key) == made
    assert read(store, "encode", made.key) is None
    assert (tmp_path / "manifests" / "train" / f"{made.key}.json").is_file()


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_missing_or_damaged_blob_means_that_the_stage_is_not_done(tmp_path: Path, content: bytes | None) -> None:
    store = Store(tmp_path)
    made = manifest(adapter=store.put(b"a", "adapter", ".bin"), log=store.put(b"b", "log", ".txt"))
    write(store, made)
    blob = Path(store.root, made.outputs["log"].uri)
    blob.unlink()
    if content:
        blob.write_bytes(content)
    assert read(store, "train", made.key) is None


def test_a_damaged_manifest_means_that_the_stage_is_not_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_text(path("train", "key"), '{"stage": "tra')
    assert read(store, "train", "key") is None


def test_what_is_set_aside_counts_again_unless_it_was_done_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = manifest()
    set_aside(store, "train", made.key)  # nothing there: nothing happens
    restore(store, "train", made.key)
    assert read(store, "train", made.key) is None
    write(store, made)
    set_aside(store, "train", made.key)
    assert read(store, "train", made.key) is None
    restore(store, "train", made.key)
    assert read(store, "train", made.key) == made
    set_aside(store, "train", made.key)
    anew = made.model_copy(update={"finished": 2e9})
    write(store, anew)
    restore(store, "train", made.key)
    assert read(store, "train", made.key) == anew


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00", b"[]"])
def test_a_manifest_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    write(store, manifest())
    (tmp_path / path("train", "k" * 64)).write_bytes(content)
    assert read(store, "train", "k" * 64) is None
