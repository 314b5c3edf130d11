"""The client's table: Parquet with `image` (PNG or JPEG bytes), `prompt`, optional `split`; read, checked and split."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps, UnidentifiedImageError

from fedcore.errors import TableError

Split = Literal["train", "tune", "test"]
SPLITS: dict[str, Split] = {"train": "train", "tune": "tune", "validation": "tune", "val": "tune", "test": "test"}
TUNE_SHARE, TEST_SHARE = 0.15, 0.2
MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class Row:
    """One picture with its prompt; `index` is its place in the table."""

    index: int
    image: bytes
    prompt: str
    split: Split


def read_table(blob: bytes, path: str) -> list[Row]:
    """The rows of a client's table, from the bytes of its Parquet file; `path` names it in errors, which quote nothing of it.

    Without a `split` column a fifth of the rows becomes `test` and about a seventh `tune`, by the hash of the picture, at
    least one of each where there are three rows.

    Raises:
        TableError: it is no Parquet, lacks a column, has an unknown split or no picture to train on.
    """
    try:
        table = pq.ParquetFile(pa.BufferReader(blob)).read(use_threads=False)
    except (pa.ArrowException, OSError):
        raise TableError("not a readable Parquet file; make it anew with `fedcore import-images`", at=path) from None
    for column, kinds in (("image", (pa.binary(), pa.large_binary())), ("prompt", (pa.string(), pa.large_string()))):
        if (times := table.column_names.count(column)) != 1:
            raise TableError(f"{times or 'no'} column{'s' * (times > 1)} '{column}'; a table needs one 'image' and one 'prompt'", at=path)
        if table.schema.field(column).type not in kinds:
            raise TableError(f"column '{column}' is {table.schema.field(column).type}, expected {kinds[0]}", at=path)
    if table.column_names.count("split") > 1:
        raise TableError("several columns 'split'; leave one", at=path)
    images = cast("list[bytes | None]", table["image"].to_pylist())
    try:
        prompts = cast("list[str | None]", table["prompt"].to_pylist())
        given = table["split"].to_pylist() if "split" in table.column_names else None
    except UnicodeDecodeError:
        raise TableError("its text is not UTF-8; write the table anew with `fedcore import-images`", at=path) from None
    for i, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        if image is None or prompt is None:
            raise TableError(f"row {i} has no {'image' if image is None else 'prompt'}; remove the row or fill it in", at=path)
    whole = cast("list[bytes]", images)
    splits = _by_hash(whole) if given is None else _given(path, given)
    if "train" not in splits:
        raise TableError(f"no pictures to train on ({table.num_rows} rows, none of split 'train'); add pictures", at=path)
    return [Row(i, *row) for i, row in enumerate(zip(whole, cast("list[str]", prompts), splits, strict=True))]


def _given(path: str, names: list[str | None]) -> list[Split]:
    out: list[Split] = []
    for i, name in enumerate(names):
        if not isinstance(name, str) or name not in SPLITS:
            raise TableError(f"row {i} has an unknown split; use one of {', '.join(SPLITS)}", at=path)  # it may be a caption: not quoted
        out.append(SPLITS[name])
    return out


def _by_hash(images: list[bytes]) -> list[Split]:
    """Equal pictures fall into the same split, so none is trained on and tested with."""
    digests = [hashlib.sha256(image).digest() for image in images]
    order = sorted(set(digests))
    tests = max(1, round(TEST_SHARE * len(order))) if len(order) >= 3 else 0
    tunes = max(1, round(TUNE_SHARE * len(order))) if len(order) >= 3 else 0
    split: dict[bytes, Split] = {d: "test" if i < tests else "tune" if i < tests + tunes else "train" for i, d in enumerate(order)}
    return [split[d] for d in digests]


def write_table(path: Path, rows: list[tuple[bytes, str, Split | None]]) -> None:
    """Write (image, prompt, split) rows; the split column is left out where no row has one."""
    columns: dict[str, pa.Array] = {
        "image": pa.array([image for image, _, _ in rows], pa.binary()),
        "prompt": pa.array([prompt for _, prompt, _ in rows], pa.string()),
    }
    if any(split for _, _, split in rows):
        columns["split"] = pa.array([split for _, _, split in rows], pa.string())
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    try:
        pq.write_table(pa.table(columns), part, compression="zstd")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _insist_on_size_and_kind(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise TableError(f"a picture of {image.width}×{image.height} is above the limit of {MAX_PIXELS:,} pixels; reduce it first")
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):  # what would be white is anybody's guess
        raise TableError("its channels hold 32 bits or negative numbers; save it with 8 or 16 bits a channel")


def opened(blob: bytes) -> Image.Image:
    """A picture upright by its EXIF, transparency on white, in RGB.

    Raises:
        TableError: the bytes are no picture, or one of absurd size, or its numbers say nothing of how bright they are.
    """
    try:
        image = Image.open(io.BytesIO(blob))
        _insist_on_size_and_kind(image)
        upright = ImageOps.exif_transpose(image)
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            layered = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
        if upright.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip to white, not scale
            upright = Image.fromarray((np.asarray(upright.convert("I")) / 257).round().clip(0, 255).astype(np.uint8))
        return upright.convert("RGB")
    except UnidentifiedImageError:
        raise TableError("not a readable picture (no known image format)") from None
    except TableError:
        raise
    except Exception as error:  # noqa: BLE001 Pillow raises almost anything on broken files
        raise TableError(f"not a readable picture ({type(error).__name__})") from None


def picture(blob: bytes, size: int) -> Image.Image:
    """A picture as training sees it: the centre square of `opened`, `size`×`size`.

    Raises:
        TableError: as `opened`.
    """
    return ImageOps.fit(opened(blob), (size, size), Image.Resampling.LANCZOS)
