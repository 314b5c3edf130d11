"""A stage counts as done while its manifest and all its blobs are there, intact."""

from pathlib import Path

import pytest

from data.manifests import Manifest, path, read, write
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
