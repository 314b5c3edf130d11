"""Makes a client table from a folder of pictures with captions: `.txt` files, `metadata.jsonl` or `captions.csv`."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from data.store import insist_on_place
from data.tables import SPLITS, Split, opened, write_table
from fedcore.errors import TableError

PICTURES = {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
OTHERS = {".heic", ".heif", ".avif", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".jp2", ".jxl"}
"""Pictures, too, that cannot be read here."""
STORED_AS_IS = {".png": b"\x89PNG", **dict.fromkeys((".jpg", ".jpeg", ".jfif"), b"\xff\xd8")}
SHORTER_SIDE = 1024  # pixels, what the largest bases draw; what is larger, or not PNG or JPEG, is stored again as PNG of this size at most


@dataclass(frozen=True)
class Imported:
    """How many rows were written, and which files were left out, each with the reason."""

    rows: int
    skipped: list[tuple[str, str]]


def captions(folder: Path) -> dict[str, tuple[str, Split | None]]:
    """Caption and split by file name (relative to `folder`), from `metadata.jsonl` or `captions.csv`; `.txt` files come later.

    Raises:
        TableError: a line that cannot be read, or without file name or caption.
    """
    found: dict[str, tuple[str, Split | None]] = {}
    for source, entry in _entries(folder):
        name = entry.get("file_name") or entry.get("image") or entry.get("file")
        texts = [entry[k] for k in ("prompt", "text", "caption") if entry.get(k) is not None]
        text = next(filter(None, texts), "" if texts else None)
        if not isinstance(name, str) or not name or not isinstance(text, str):
            raise TableError(f"{source}: needs a file name (file_name) and a caption (prompt, text or caption)")
        if any(0xD800 <= ord(c) < 0xE000 for c in name + text):  # JSON may hold it, UTF-8 and Parquet may not
            raise TableError(f"{source}: holds half a character (a lone surrogate); write it out")
        split = entry.get("split") or None
        if split is not None and (not isinstance(split, str) or split not in SPLITS):
            raise TableError(f"{source}: split '{split}' is none of {', '.join(SPLITS)}")
        found[name] = (str(text).strip(), SPLITS[split] if split else None)
    return found


def _entries(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Every line of the caption files, with its place for messages."""
    jsonl, table = folder / "metadata.jsonl", folder / "captions.csv"
    if jsonl.exists():
        for i, line in enumerate(_text(jsonl).split("\n"), 1):  # JSON may hold what else ends a line
            if line.strip():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError as error:
                    raise TableError(f"{jsonl}: line {i} is no JSON ({error.msg})") from None
                if not isinstance(entry, dict):
                    raise TableError(f"{jsonl}: line {i} is no JSON object")
                yield f"{jsonl}: line {i}", entry
    if table.exists():
        yield from _rows(table)


END = "the end of the file"


def _rows(table: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, each with its place; a row of ours at its end is swallowed where a quotation stays open."""
    if not (text := _text(table).rstrip()):
        return
    reader, line, found = csv.DictReader(io.StringIO(f"{text}\n{END}")), 2, list[tuple[int, dict[str, str]]]()
    try:
        for row in reader:
            found.append((line, row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"{table}: line {line} cannot be read ({error})") from None
    last, end = found.pop() if found else (1, {"": ""})
    if next(iter(end.values())) != END:
        raise TableError(f"{table}: line {last}: a quotation mark is opened and never closed")
    yield from ((f"{table}: line {at}", row) for at, row in found)


def _text(file: Path) -> str:
    """A text file as UTF-8, with or without a byte order mark.

    Raises:
        TableError: it is in another encoding.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise TableError(f"{file}: not UTF-8 text; save it as UTF-8") from None


def import_images(
    folder: Path, out: Path, *, trigger: str | None = None, track: Callable[[list[Path]], Iterable[Path]] = lambda paths: paths
) -> Imported:
    """Write `out` from the pictures below `folder`; what cannot be used, or is there already, is listed and skipped.

    Pictures without a caption get the word `trigger`, or are skipped without one.

    Raises:
        InputError: `out` is no place for a file.
        TableError: the folder is missing, or nothing usable is in it (then `out` is left as it was).
    """
    if not folder.is_dir():
        raise TableError(f"{folder}: there is no such folder")
    listed = captions(folder)
    insist_on_place(out)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
    there = {file.relative_to(folder).as_posix() for file in files}
    listed = {name if name in there else _plain(name): said for name, said in listed.items()}
    rows: list[tuple[bytes, str, Split | None]] = []
    skipped = list(_other_files(folder))
    seen: dict[bytes, str] = {}
    for file in track(files):
        name = file.relative_to(folder).as_posix()
        beside = file.with_suffix(".txt")
        try:
            prompt, split = listed.get(name) or (_text(beside).strip() if beside.exists() else "", None)
        except TableError as error:
            skipped.append((name, str(error)))
            continue
        if not (prompt := prompt or trigger or ""):
            skipped.append((name, f"no caption: write {beside.name} beside it, a line in metadata.jsonl or captions.csv, or use --trigger"))
            continue
        try:
            image = _bytes(file)
        except TableError as error:
            skipped.append((name, str(error)))
            continue
        if (first := seen.setdefault(look(image), name)) != name:
            skipped.append((name, f"the same picture as {first}"))
            continue
        rows.append((image, prompt, split))
    missing = sorted(set(listed) - there)
    skipped += [(name, "named in the captions, but there is no such picture") for name in missing]
    if not rows:
        why = f"; first of {len(skipped)} left out: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise TableError(f"{folder}: no usable picture with a caption{why}")
    if any(split for *_, split in rows):
        rows = [(image, prompt, split or "train") for image, prompt, split in rows]
    write_table(out, rows)
    return Imported(len(rows), skipped)


def _plain(name: str) -> str:
    """A file's name as it may have been meant: without a dot or blanks around it, and with slashes that lean to the right."""
    return PurePosixPath(name.strip().replace("\\", "/")).as_posix()


def _other_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Pictures of other kinds, and links to pictures that are not there."""
    for path in sorted(folder.rglob("*")):
        name, kind = path.relative_to(folder).as_posix(), path.suffix.lower()
        if kind not in PICTURES | OTHERS:
            continue
        if path.is_symlink() and not path.exists():
            yield name, "a link to a file that is not there"
        elif path.is_file() and kind in OTHERS:
            yield name, "a kind of picture that cannot be read here; save it as JPEG or PNG"


def look(image: bytes) -> bytes:
    """The same for pictures that look the same, whatever their file: a digest of the upright pixels.

    Raises:
        TableError: it is no picture.
    """
    upright = opened(image)
    return hashlib.sha256(f"{upright.size}".encode() + upright.tobytes()).digest()


def _bytes(file: Path) -> bytes:
    """The file's own bytes where PNG or JPEG of sensible size, else the picture stored again as PNG."""
    blob = file.read_bytes()
    upright = opened(blob)  # decodes all of it: a truncated file fails here
    if blob.startswith(STORED_AS_IS.get(file.suffix.lower(), b"\0")) and min(upright.size) <= SHORTER_SIDE:
        return blob
    by = max(1.0, min(upright.size) / SHORTER_SIDE)
    width, height = (round(side / by) for side in upright.size)
    out = io.BytesIO()
    (upright if by == 1 else upright.resize((width, height), Image.Resampling.LANCZOS)).save(out, "PNG")
    return out.getvalue()
