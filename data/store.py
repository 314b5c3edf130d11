"""The artifact store: content-addressed blobs and stage manifests, on a folder or any fsspec file system."""

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, Field

from fedcore.errors import InputError, StoreError

FORMAT = 1
PIECE = 2**20  # bytes read at once
PLACE = re.compile(r"blobs/[0-9a-f]{2}/([0-9a-f]{64})(\.[a-z]+)?")
NO_SPACE = "no space left on the disk of {}; free some, then `fedcore resume`: what was finished is kept"


class Ref(BaseModel):
    """A blob by content: `uri` inside its store, `sha256`, what `kind` of thing it is, its size in `bytes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    kind: Annotated[str, Field(pattern=r"^[a-z-]{1,32}$")]
    bytes: Annotated[int, Field(ge=0)]


class Store:
    """Blobs under `blobs/`, manifests under `manifests/`. Equal bytes are stored once; nothing is ever half-written."""

    def __init__(self, url: str | Path) -> None:
        """`url`: a folder, or anything fsspec opens (`s3://bucket/prefix`).

        Raises:
            StoreError: the address is none that can be opened, or the store was written by another version of this software.
        """
        try:
            self._fs, root = fsspec.core.url_to_fs(str(url), use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise StoreError(f"store '{url}': {error}; give a folder or an address such as s3://bucket/prefix") from None
        self.root: str = root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)
        found = self.read_text("format")
        if found is not None and found.strip() != str(FORMAT):
            raise StoreError(
                f"store format {found.strip()}, this version reads format {FORMAT}; use the version that wrote it", at=self.root
            )
        if found is None:
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
            StoreError: it is gone, its content is not what its name says, or its place or size are not its own.
        """
        place = PLACE.fullmatch(ref.uri)  # a Ref may come from anywhere: it opens blobs only, and no more of them than it says
        if place is None or place[1] != ref.sha256:
            raise StoreError(f"{ref.kind} {ref.sha256[:12]} is said to lie at {ref.uri[:120]!a}, which is no place of such a blob")
        try:
            with self._reached():
                blob: bytes = self._fs.cat_file(f"{self.root}/{ref.uri}", end=ref.bytes + 1)
        except FileNotFoundError:
            raise StoreError(
                f"{ref.kind} {ref.sha256[:12]} is missing from {self.root}; run `fedcore resume` to compute it again"
            ) from None
        if hashlib.sha256(blob).hexdigest() != ref.sha256:
            raise StoreError(f"{ref.kind} {ref.sha256[:12]} in {self.root} is damaged; run `fedcore resume` to compute it again")
        return blob

    def holds(self, ref: Ref) -> bool:
        """Is the blob there, and intact? Read in pieces: a Ref may come from anywhere, and claim any size."""
        place = PLACE.fullmatch(ref.uri)
        if place is None or place[1] != ref.sha256:
            return False
        digest, size = hashlib.sha256(), 0
        try:
            with self._reached(), self._fs.open(f"{self.root}/{ref.uri}", "rb") as file:
                while size <= ref.bytes and (piece := file.read(PIECE)):
                    digest.update(piece)
                    size += len(piece)
        except FileNotFoundError:
            return False
        return (digest.hexdigest(), size) == (ref.sha256, ref.bytes)

    @contextmanager
    def _reached(self, *, writing: bool = False) -> Iterator[None]:
        """What goes wrong on the way to a store elsewhere is told in one line.

        Raises:
            StoreError: it cannot be reached, or does not let us in.
        """
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            if self._local or (isinstance(error, FileNotFoundError) and not writing):
                raise
            why = next(iter(str(error).splitlines()), "")
            raise StoreError(
                f"store {self.root}: {type(error).__name__}: {why[:200]}; are its address and the credentials right, and does it answer?"
            ) from None

    def write_text(self, name: str, text: str) -> None:
        """Replace a named file (a manifest, a run's record) atomically."""
        self._write(name, text.encode())

    def read_text(self, name: str, most: int | None = None) -> str | None:
        """A named file, of a stranger's not more than `most` bytes, or None."""
        try:
            with self._reached():
                content: bytes = self._fs.cat_file(f"{self.root}/{name}", end=most)
        except FileNotFoundError:
            return None
        return content.decode(errors="replace")  # what is damaged is none of what its reader expects

    def remove(self, name: str) -> None:
        """Remove a named file, if it is there."""
        with self._reached():
            if self._fs.exists(f"{self.root}/{name}"):
                self._fs.rm_file(f"{self.root}/{name}")

    def children(self, folder: str) -> list[str]:
        """Names below a folder of this store, sorted; none where it does not exist."""
        try:
            with self._reached():
                return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in self._fs.ls(f"{self.root}/{folder}", detail=False))
        except FileNotFoundError:
            return []

    def _write(self, name: str, blob: bytes) -> None:
        path = f"{self.root}/{name}"
        if not self._local:
            with self._reached(writing=True):
                self._fs.pipe_file(path, blob)
            return
        write_atomically(Path(path), blob)


_UMASK = os.umask(0o077)  # it can only be read by setting it: once, before there are threads
os.umask(_UMASK)


def insist_on_place(path: Path) -> None:
    """Refuse a place where no file can be written, before there is something to write; its folder is made.

    Raises:
        InputError: it is a folder or a device, or lies in no folder that may be written to.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file")
    _insist_on_no_device(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"{path} cannot be written: {error.filename}: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: {path.parent} may not be changed")


def insist_on_png(path: Path) -> None:
    """Refuse a place for a picture as `insist_on_place` does, or for a name that does not end in `.png`.

    Raises:
        InputError: what is wrong with the place, or the name.
    """
    if path.suffix.lower() != ".png" and not path.is_dir():
        raise InputError(f"{path}: pictures are written as PNG; give a name that ends in .png")
    insist_on_place(path)


def _insist_on_no_device(path: Path) -> None:
    if path.exists() and not path.is_file() and not path.is_dir():  # it would become a file, for everybody
        raise InputError(f"{path} is no ordinary file; name another one")


def write_atomically(path: Path, blob: bytes | Iterable[bytes], *, private: bool = False) -> None:
    """Temporary file in the same folder, fsync, rename: readers see the old content or the new, never a part.

    What is large comes piece by piece. `private` files can be read by their owner only.

    Raises:
        InputError: a device is there.
        StoreError: the disk is full; nothing was changed.
    """
    _insist_on_no_device(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        _fill_and_rename(handle, name, path, [blob] if isinstance(blob, bytes) else blob, 0o600 if private else 0o666 & ~_UMASK)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(NO_SPACE.format(path.parent)) from None


def _fill_and_rename(handle: int, name: str, path: Path, pieces: Iterable[bytes], mode: int) -> None:
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)  # temporary files are private; results are as readable as any file
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
