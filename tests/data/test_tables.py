"""Client tables: what is read, how rows are split, what is refused; and pictures as training sees them."""

import io
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.tables import Row, _by_hash, picture, read_table, write_table
from fedcore.errors import TableError
from tests.tiny import encoded, png
from tests.tiny import picture as random_picture


def table(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def three(**columns: Any) -> dict[str, Any]:
    return {"image": [png(i) for i in range(3)], "prompt": ["a", "b", "c"], **columns}


def read(path: Path) -> list[Row]:
    return read_table(path.read_bytes(), str(path))


# Reading and splitting


def test_rows_read_back_as_they_were_written_with_their_index(tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.parquet"
    write_table(path, [(png(1), "a cat", "test"), (png(2), "ein Hündchen", "train"), (png(3), "x", "tune")])
    assert [(r.index, r.image, r.prompt, r.split) for r in read(path)] == [
        (0, png(1), "a cat", "test"),
        (1, png(2), "ein Hündchen", "train"),
        (2, png(3), "x", "tune"),
    ]


def test_validation_is_another_word_for_tune(tmp_path: Path) -> None:
    rows = read(table(tmp_path / "t.parquet", **three(split=["train", "validation", "val"])))
    assert [r.split for r in rows] == ["train", "tune", "tune"]


def test_large_string_columns_are_read_too(tmp_path: Path) -> None:
    large = {"image": pa.array([png(1)], pa.large_binary()), "prompt": pa.array(["a"], pa.large_string())}
    assert read(table(tmp_path / "t.parquet", **large))[0].prompt == "a"


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_equal_pictures_share_a_split_and_shares_are_a_fifth_and_a_seventh(contents: list[int]) -> None:
    images = [bytes([c]) for c in contents]
    splits = _by_hash(images)
    of = dict(zip(images, splits, strict=True))
    assert splits == [of[image] for image in images]
    n, counts = len(of), Counter(of.values())
    if n < 3:
        assert counts == {"train": n}
    else:
        assert counts["test"] == max(1, round(0.2 * n))
        assert counts["tune"] == max(1, round(0.15 * n))
        assert counts["train"] >= 1


def test_the_split_of_a_picture_does_not_depend_on_its_place(tmp_path: Path) -> None:
    images = [png(i) for i in range(12)]
    forwards = read(table(tmp_path / "f.parquet", image=images, prompt=["p"] * 12))
    backwards = read(table(tmp_path / "b.parquet", image=images[::-1], prompt=["p"] * 12))
    assert {r.image: r.split for r in forwards} == {r.image: r.split for r in backwards}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": ["a"]}, "no column 'image'; a table needs"),
        ({"image": [b"x"]}, "no column 'prompt'; a table needs"),
        ({"image": ["text"], "prompt": ["a"]}, "column 'image' is string, expected binary"),
        ({"image": [b"x"], "prompt": [1]}, "column 'prompt' is int64, expected string"),
        (three(prompt=["a", None, "c"]), "row 1 has no prompt"),
        (three(image=[b"x", b"y", None]), "row 2 has no image"),
        (three(split=["train", "trian", "test"]), "row 1 has an unknown split; use one of train, tune, validation, val, test"),
        (three(split=["train", None, "test"]), "row 1 has an unknown split"),
        (three(split=[1, 2, 3]), "row 0 has an unknown split"),
        (three(split=[["train"], ["tune"], ["test"]]), "row 0 has an unknown split"),
        (three(split=["tune", "test", "test"]), r"no pictures to train on \(3 rows, none of split 'train'\)"),
        ({"image": pa.array([], pa.binary()), "prompt": pa.array([], pa.string())}, r"no pictures to train on \(0 rows"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_an_unusable_table_is_refused_with_file_and_reason(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = table(tmp_path / "t.parquet", **columns)
    with pytest.raises(TableError, match=f"^{path}: {message}"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"PAR1 rubbish", b"image,prompt\n"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(TableError, match=f"^{path}: not a readable Parquet file"):
        read(path)


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, [(png(1), "a", None)])
    before = path.read_bytes()
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write_table(path, [(png(1), 5, None)])  # type: ignore[list-item]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Pictures


def test_a_picture_is_cut_to_its_centre_square_and_resized() -> None:
    """Left and right thirds are red and blue, the middle square green; half as large, grey stays grey."""
    image = Image.new("RGB", (30, 10), "red")
    image.paste("lime", (10, 0, 20, 10))
    image.paste("blue", (20, 0, 30, 10))
    assert picture(encoded(image), 10).tobytes() == b"\x00\xff\x00" * 100
    assert picture(encoded(Image.new("L", (30, 10), 77)), 5).tobytes() == bytes([77]) * 75


def test_a_picture_of_the_right_size_keeps_its_pixels() -> None:
    image = random_picture("kept")
    assert picture(encoded(image), 16).tobytes() == image.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_turned_upright_by_its_exif(kind: str) -> None:
    """Orientation 6 means: turn by 90° clockwise. What lies left then lies on top."""
    image = Image.new("RGB", (16, 16), "white")
    image.paste("black", (0, 0, 8, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    made = np.asarray(picture(encoded(image, kind, exif=exif), 16).convert("L"))
    assert made[:7].max() < 30
    assert made[9:].min() > 225


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(mode: str) -> None:
    """Left half opaque black, right half transparent black."""
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 16))
    if mode == "P":
        flat = Image.new("P", (16, 16), 1)
        flat.putpalette([0, 0, 0, 0, 0, 0])
        flat.paste(0, (0, 0, 8, 16))
        blob = encoded(flat, transparency=1)
    else:
        blob = encoded(image.convert(mode))
    made = np.asarray(picture(blob, 16))
    assert made[:, :8].max() == 0
    assert made[:, 8:].min() == 255


def test_half_transparent_colours_are_mixed_with_white() -> None:
    made = picture(encoded(Image.new("RGBA", (16, 16), (255, 0, 0, 51))), 16)
    assert made.getpixel((3, 3)) == (255, 204, 204)


def test_a_grey_picture_of_sixteen_bits_keeps_its_greys() -> None:
    """Half of full intensity is half of full intensity."""
    made = picture(encoded(Image.fromarray(np.full((16, 16), 32768, dtype=np.uint16))), 16)
    assert made.getpixel((3, 3)) == (128, 128, 128)


@pytest.mark.parametrize("numbers", [np.float32, np.int32])
def test_numbers_without_a_known_white_are_refused(numbers: type) -> None:
    """They would become black or white altogether."""
    tiff = io.BytesIO()
    Image.fromarray(np.full((16, 16), 0.5, np.float32).astype(numbers)).save(tiff, "TIFF")
    with pytest.raises(TableError, match="its channels hold 32 bits or negative numbers; save it with 8 or 16 bits a channel"):
        picture(tiff.getvalue(), 16)


def chunks(size: tuple[int, int], *data: tuple[bytes, bytes]) -> bytes:
    """A PNG from chunks by name, checksums included."""
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *data, (b"IEND", b"")]
    body = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


PIXELS = zlib.compress(b"".join(b"\0" + bytes(48) for _ in range(16)))


def test_the_hand_made_png_is_readable() -> None:
    assert picture(chunks((16, 16), (b"IDAT", PIXELS[:9]), (b"IDAT", PIXELS[9:])), 16).tobytes() == bytes(16 * 16 * 3)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"not a picture",
        png(1)[:-200],
        png(1)[:30],
        encoded(random_picture("jpeg"), "JPEG")[:300],
        encoded(random_picture("webp"), "WEBP")[:60],
        chunks((16, 16), (b"IDAT", b"rubbish")),
        chunks((16, 16), (b"IDAT", PIXELS[:9]), (b"\xb5\x8e\x13\x07", PIXELS[9:])),
    ],
    ids=["empty", "text", "cut", "header", "cut jpeg", "cut webp", "bad data", "bad chunk"],
)
def test_a_damaged_picture_is_refused(blob: bytes) -> None:
    with pytest.raises(TableError, match=r"^not a readable picture"):
        picture(blob, 16)


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(TableError, match=r"8000×8001 is above the limit of 64,000,000 pixels"):
        picture(chunks((8000, 8001)), 16)
    with pytest.raises(TableError):
        picture(chunks((100_000, 100_000)), 16)


@given(st.binary(max_size=40), st.integers(0, 250))
def test_a_picture_with_rubbish_in_it_is_a_picture_or_refused(rubbish: bytes, at: int) -> None:
    blob = encoded(random_picture("rubbish"), "JPEG")
    try:
        made = picture(blob[:at] + rubbish + blob[at + len(rubbish) :], 16)
    except TableError:
        return
    assert (made.mode, made.size) == ("RGB", (16, 16))


@pytest.mark.parametrize("column", ["image", "prompt", "split"])
def test_a_column_that_is_there_twice_is_refused(column: str) -> None:
    values = {"image": pa.array([b"x"], pa.binary()), "prompt": pa.array(["a"]), "split": pa.array(["train"])}
    names = [*values, column]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([values[name] for name in names], names=names), out)
    with pytest.raises(TableError, match=rf"columns '{column}'"):
        read_table(out.getvalue(), "c01.parquet")
