"""The store: content names blobs, damage is found, and nothing is ever half-written."""

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3fs

from data.store import Ref, Store, insist_on_place, insist_on_png, without_locations, write_atomically
from fedcore.errors import InputError, StoreError
from tests.e2e.servers import clean_environment, free_port, process, wait_for


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket on a server that speaks S3, on loopback."""
    port = free_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    log, command = tmp_path_factory.mktemp("s3") / "log", (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    with pytest.MonkeyPatch.context() as patch, process(log, clean_environment(**keys), *command):
        for name, value in {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
            patch.setenv(name, value)
        wait_for(f"http://127.0.0.1:{port}/moto-api/")
        fsspec.filesystem("s3").mkdir("fedcore")
        yield "s3://fedcore"


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store on a folder, one in memory, one on S3."""
    if request.param == "s3":
        return Store(f"{request.getfixturevalue('s3')}/{tmp_path.name}")
    return Store(tmp_path / "store" if request.param == "folder" else f"memory://{tmp_path.name}/{request.node.name}")


def broken_fsync(_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


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
    path = Path(store.root, store.put(b"same", "x", ".bin").uri)
    written = path.stat().st_ino
    assert Path(store.root, store.put(b"same", "x", ".bin").uri).stat().st_ino == written
    store.put(b"other", "x", ".bin")
    assert len(files(tmp_path / "blobs")) == 2


def test_a_damaged_blob_is_found_by_its_hash_and_healed_by_storing_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ref = store.put(b"weights", "adapter", ".bin")
    Path(store.root, ref.uri).write_bytes(b"weighty")
    assert not store.holds(ref)
    with pytest.raises(StoreError, match=rf"^adapter {ref.sha256[:12]} in .* is damaged; run `fedcore resume`"):
        store.get(ref)
    store.put(b"weights", "adapter", ".bin")
    assert store.get(ref) == b"weights"


def test_a_missing_blob_is_named(store: Store) -> None:
    ref = Ref(uri=f"blobs/00/{'0' * 64}", sha256="0" * 64, kind="gallery", bytes=1)
    assert not store.holds(ref)
    with pytest.raises(StoreError, match=r"^gallery 000000000000 is missing from .*; run `fedcore resume`"):
        store.get(ref)


def test_a_reference_opens_no_other_file_and_reads_no_more_than_it_says(tmp_path: Path) -> None:
    """It may come from a client: its place and size are its word, its hash is checked."""
    store = Store(tmp_path / "store")
    (tmp_path / "secret").write_bytes(b"weights")
    ref = store.put(b"weights", "adapter", ".bin")
    assert store.get(ref) == b"weights"
    for place in ("../secret", f"blobs/../../secret/{ref.sha256}", f"blobs/00/{'0' * 64}.bin"):
        with pytest.raises(StoreError, match="which is no place of such a blob"):
            store.get(ref.model_copy(update={"uri": place}))
    Path(store.root, ref.uri).write_bytes(b"weights" * 1000)
    with pytest.raises(StoreError, match="damaged"):
        store.get(ref)
    with pytest.raises(StoreError, match="damaged"):
        store.get(store.put(b"weights", "adapter", ".bin").model_copy(update={"bytes": 3}))


@pytest.mark.parametrize("address", ["foo://bucket", "s4://x"])
def test_an_address_that_cannot_be_opened_is_named(address: str) -> None:
    with pytest.raises(StoreError, match=f"^store '{address}': "):
        Store(address)


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


def test_what_another_process_writes_or_removes_is_seen_at_once(s3: str, tmp_path: Path) -> None:
    """Listings must not be cached: rounds wait for what workers leave."""
    store, elsewhere = Store(f"{s3}/{tmp_path.name}"), fsspec.filesystem("s3", skip_instance_cache=True)
    assert store.children("boxes/a") == []
    elsewhere.pipe_file(f"fedcore/{tmp_path.name}/boxes/a/c1.json", b"{}")
    assert store.children("boxes/a") == ["c1.json"]
    assert store.read_text("boxes/a/c1.json") == "{}"
    elsewhere.rm_file(f"fedcore/{tmp_path.name}/boxes/a/c1.json")
    assert store.children("boxes/a") == []
    store.remove("boxes/a/c1.json")


def test_a_removed_text_is_gone(store: Store) -> None:
    store.write_text("runs/x.json", "{}")
    store.remove("runs/x.json")
    store.remove("runs/x.json")
    assert store.read_text("runs/x.json") is None


def test_a_full_disk_is_told_and_leaves_the_old_content_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.write_text("runs/demo.json", "old")
    before = files(tmp_path)
    monkeypatch.setattr(os, "fsync", broken_fsync)
    with pytest.raises(StoreError, match=f"no space left on the disk of {tmp_path}"):
        store.write_text("runs/demo.json", "new")
    with pytest.raises(StoreError, match=f"no space left on the disk of {tmp_path}"):
        store.put(b"blob", "x", ".bin")
    assert files(tmp_path) == before
    assert store.read_text("runs/demo.json") == "old"


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for write in (insist_on_place, lambda path: write_atomically(path, b"x")):
        with pytest.raises(InputError, match="pipe is no ordinary file"):
            write(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(("name", "reason"), [("cat.jpg", "written as PNG"), ("cat", "written as PNG"), ("folder.png", "is a folder")])
def test_a_picture_is_not_given_another_kind_s_name(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder.png").mkdir()
    insist_on_png(tmp_path / "new" / "cat.PNG")
    with pytest.raises(InputError, match=reason):
        insist_on_png(tmp_path / name)


def test_a_write_to_a_path_that_is_a_folder_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_atomically(tmp_path / "taken", b"x")
    assert files(tmp_path) == []


def test_keys_see_the_content_of_a_reference_and_not_its_place(tmp_path: Path) -> None:
    ref = Store(tmp_path).put(b"x", "x", ".bin").model_dump()
    value = {"lr": 1.0, "adapters": [ref, (ref,)], "uri": "kept"}
    assert without_locations(value) == {"lr": 1.0, "adapters": [ref["sha256"], [ref["sha256"]]], "uri": "kept"}


UNREACHED = r"^store nowhere/at-all: [^\n]*; are its address and the credentials right, and does it answer\?$"


def test_a_bucket_that_is_not_there_is_one_line(s3: str) -> None:
    with pytest.raises(StoreError, match=UNREACHED):
        Store("s3://nowhere/at-all")


def test_a_store_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)  # nobody listens on the discard port
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(StoreError, match=UNREACHED):
            Store("s3://nowhere/at-all")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_blob_is_held_only_with_the_size_that_its_reference_says(store: Store) -> None:
    ref = store.put(b"weights", "adapter", ".bin")
    assert store.holds(ref)
    assert not store.holds(ref.model_copy(update={"bytes": 3}))
    assert not store.holds(ref.model_copy(update={"bytes": 10**15}))
    assert not store.holds(ref.model_copy(update={"uri": "format"}))
