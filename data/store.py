"""The artifact store: content-addressed blobs and stage manifests, on a folder or any fsspec file system."""

import errno
import hashlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict

from fedcore.errors import StoreError

FORMAT = 1
NO_SPACE = "no space left on the disk of {}; free some, then `fedcore resume`: what was finished is kept"


class Ref(BaseModel):
    """A blob by content: `uri` inside its store, `sha256`, what `kind` of thing it is, its size in `bytes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    sha256: str
    kind: str
    bytes: int


class Store:
    """Blobs under `blobs/`, manifests under `manifests/`. Equal bytes are stored once; nothing is ever half-written."""

    def __init__(self, url: str | Path) -> None:
        """`url`: a folder, or anything fsspec opens (`s3://bucket/prefix`).

        Raises:
            StoreError: the store was written by a newer version of this software.
        """
        self._fs, root = fsspec.core.url_to_fs(str(url), use_listings_cache=False)
        self.root: str = root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)
        mark = f"{self.root}/format"
        if self._fs.exists(mark):
            if (found := self._fs.cat_file(mark).decode().strip()) != str(FORMAT):
                raise StoreError(f"{self.root}: store format {found}, this version reads format {FORMAT}; use the version that wrote it")
        else:
            self._write("format", f"{FORMAT}\n".encode())

    def put(self, blob: bytes, kind: str, suffix: str) -> Ref:
        """Keep `blob`; the name follows from its content."""
        digest = hashlib.sha256(blob).hexdigest()
        uri = f"blobs/{digest[:2]}/{digest}{suffix}"
        ref = Ref(uri=uri, sha256=digest, kind=kind, bytes=len(blob))
        if not self.holds(ref):
            self._write(uri, blob)
        return ref

    def get(self, ref: Ref) -> bytes:
        """The blob, its content verified.

        Raises:
            StoreError: it is gone, or its content is not what its name says.
        """
        try:
            blob: bytes = self._fs.cat_file(f"{self.root}/{ref.uri}")
        except FileNotFoundError:
            raise StoreError(
                f"{ref.kind} {ref.sha256[:12]} is missing from {self.root}; run `fedcore resume` to compute it again"
            ) from None
        if hashlib.sha256(blob).hexdigest() != ref.sha256:
            raise StoreError(f"{ref.kind} {ref.sha256[:12]} in {self.root} is damaged; run `fedcore resume` to compute it again")
        return blob

    def holds(self, ref: Ref) -> bool:
        """Is the blob there, and intact?"""
        try:
            self.get(ref)
        except StoreError:
            return False
        return True

    def local_path(self, ref: Ref) -> Path:
        """Where a blob lies, for a store on a local folder."""
        return Path(self.root) / ref.uri

    def write_text(self, name: str, text: str) -> None:
        """Replace a named file (a manifest, a run's record) atomically."""
        self._write(name, text.encode())

    def read_text(self, name: str) -> str | None:
        """A named file, or None."""
        try:
            content: bytes = self._fs.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None
        return content.decode()

    def remove(self, name: str) -> None:
        """Remove a named file, if it is there."""
        if self._fs.exists(f"{self.root}/{name}"):
            self._fs.rm_file(f"{self.root}/{name}")

    def children(self, folder: str) -> list[str]:
        """Names below a folder of this store, sorted; none where it does not exist."""
        try:
            return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in self._fs.ls(f"{self.root}/{folder}", detail=False))
        except FileNotFoundError:
            return []

    def _write(self, name: str, blob: bytes) -> None:
        path = f"{self.root}/{name}"
        if not self._local:
            self._fs.pipe_file(path, blob)
            return
        write_atomically(Path(path), blob)


@lru_cache(maxsize=1)
def _umask() -> int:
    """This process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_atomically(path: Path, blob: bytes) -> None:
    """Temporary file in the same folder, fsync, rename: readers see the old content or the new, never a part.

    Raises:
        StoreError: the disk is full; nothing was changed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        _fill_and_rename(handle, name, path, blob)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(NO_SPACE.format(path.parent)) from None


def _fill_and_rename(handle: int, name: str, path: Path, blob: bytes) -> None:
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())  # temporary files are private; results are as readable as any file
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def without_locations(value: Any) -> Any:
    """JSON-ready `value` with every Ref reduced to its hash, so that keys depend on content alone."""
    if isinstance(value, dict):
        if set(value) == {"uri", "sha256", "kind", "bytes"}:
            return value["sha256"]
        return {k: without_locations(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_locations(v) for v in value]
    return value
