"""Folders of pictures become client tables: captions from three sources, and what cannot be used is listed."""

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.import_images import SHORTER_SIDE, captions, import_images
from data.tables import Row, picture, read_table
from fedcore.errors import InputError, TableError
from tests import tiny
from tests.tiny import encoded, png
from tests.tiny import picture as random_picture


def folder(tmp_path: Path, files: dict[str, bytes | str]) -> Path:
    """A folder with these files."""
    root = tmp_path / "pictures"
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def rows(tmp_path: Path, root: Path) -> tuple[list[Row], list[tuple[str, str]]]:
    done = import_images(root, tmp_path / "out.parquet")
    made = read_table((tmp_path / "out.parquet").read_bytes(), "out.parquet")
    assert done.rows == len(made)
    return made, done.skipped


def test_captions_lie_in_text_files_beside_the_pictures_also_in_subfolders(tmp_path: Path) -> None:
    root = folder(
        tmp_path, {"b.png": png("b"), "b.txt": " a dog \n", "sub/a.PNG": png("a"), "sub/a.txt": "ein Kätzchen", "readme.md": "no"}
    )
    made, skipped = rows(tmp_path, root)
    assert [(r.image, r.prompt) for r in made] == [(png("b"), "a dog"), (png("a"), "ein Kätzchen")]
    assert skipped == []


def test_a_caption_may_hold_what_unicode_calls_the_end_of_a_line(tmp_path: Path) -> None:
    (root := tmp_path / "pictures").mkdir()
    tiny.picture("a").save(root / "a.png")
    (root / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "prompt": "a\u2028cat\x85"}, ensure_ascii=False) + "\r\n")
    import_images(root, tmp_path / "t.parquet")
    (row,) = read_table((tmp_path / "t.parquet").read_bytes(), "t")
    assert row.prompt == "a\u2028cat"


def test_captions_lie_in_a_jsonl_file_which_wins_over_text_files(tmp_path: Path) -> None:
    lines = [{"file_name": ".\\sub\\a.png", "prompt": "a cat"}, {"image": " b.png", "text": "a dog"}, {"file": "c.png", "caption": "pizza"}]
    root = folder(tmp_path, {"sub/a.png": png(1), "b.png": png(2), "c.png": png(3), "d.png": png(4), "b.txt": "other", "d.txt": "a house"})
    (root / "metadata.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines))
    made, skipped = rows(tmp_path, root)
    assert {r.image: r.prompt for r in made} == {png(1): "a cat", png(2): "a dog", png(3): "pizza", png(4): "a house"}
    assert skipped == []


def test_captions_and_splits_lie_in_a_csv_file_with_byte_order_mark(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": png(1), "b.png": png(2), "c.png": png(3)})
    with (root / "captions.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(
            [["file_name", "prompt", "split"], ["a.png", "a cat, sitting", ""], ["b.png", "Füchse", "val"], ["c.png", "x", "test"]]
        )
    made, _ = rows(tmp_path, root)
    assert [(r.image, r.prompt, r.split) for r in made] == [
        (png(1), "a cat, sitting", "train"),
        (png(2), "Füchse", "tune"),
        (png(3), "x", "test"),
    ]


def test_quotations_in_a_csv_file_may_be_written_carelessly_and_span_lines(tmp_path: Path) -> None:
    text = 'file_name,prompt\na.png,"a cat" \nb.png,"cat" on a mat\n c.png,"one\ntwo"\n'
    root = folder(tmp_path, {"a.png": png(1), "b.png": png(2), " c.png": png(3), "captions.csv": text.encode()})
    made, skipped = rows(tmp_path, root)
    assert {r.image: r.prompt for r in made} == {png(1): "a cat", png(2): "cat on a mat", png(3): "one\ntwo"}
    assert skipped == []
    (root / "captions.csv").write_text(text + "d.png,\n")
    assert list(captions(root))[-1] == "d.png"
    (root / "captions.csv").write_text(text + ',"nameless"\n')
    with pytest.raises(TableError, match=r"captions\.csv: line 6: needs a file name"):
        captions(root)
    (root / "captions.csv").write_text('file_name,"prompt\na.png,x')
    with pytest.raises(TableError, match=r"captions\.csv: line 1: a quotation mark is opened"):
        captions(root)
    (root / "captions.csv").write_text("")
    assert captions(root) == {}


def test_what_cannot_be_used_is_listed_with_its_reason_and_the_rest_is_written(tmp_path: Path) -> None:
    root = folder(
        tmp_path, {"a.png": png(1), "a.txt": "good", "b.png": b"broken", "b.txt": "bad", "c.jpg": png(3), "d.png": png(4), "d.txt": " \n"}
    )
    (root / "metadata.jsonl").write_text(json.dumps({"file_name": "gone.png", "prompt": "x"}))
    made, skipped = rows(tmp_path, root)
    assert [r.prompt for r in made] == ["good"]
    reasons = dict(skipped)
    assert sorted(reasons) == ["b.png", "c.jpg", "d.png", "gone.png"]
    assert reasons["b.png"].startswith("not a readable picture")
    assert reasons["c.jpg"].startswith("no caption: write c.txt beside it")
    assert reasons["d.png"].startswith("no caption")
    assert reasons["gone.png"] == "named in the captions, but there is no such picture"


@pytest.mark.parametrize("files", [{}, {"a.png": b"broken", "a.txt": "bad"}], ids=["empty", "unreadable"])
def test_nothing_usable_is_an_error_and_leaves_the_old_table(tmp_path: Path, files: dict[str, bytes | str]) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"old")
    root = folder(tmp_path, {"notes.md": "x", **files})
    with pytest.raises(TableError, match=f"^{root}: no usable picture with a caption") as caught:
        import_images(root, out)
    assert ("first of 1 left out: a.png: not a readable picture" in str(caught.value)) == bool(files)
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize(("out", "reason"), [(".", "is a folder; name a file"), ("pipe", "is no ordinary file; name another one")])
def test_a_place_that_is_no_file_is_refused_before_pictures_are_read(tmp_path: Path, out: str, reason: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    root, read = folder(tmp_path, {"a.png": png(1), "a.txt": "good"}), list[Path]()

    def track(files: list[Path]) -> Iterator[Path]:
        for file in files:
            read.append(file)
            yield file

    with pytest.raises(InputError, match=reason):
        import_images(root, tmp_path / out, track=track)
    assert not read


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no such folder"):
        import_images(tmp_path / "no", tmp_path / "out.parquet")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "prompt": "x"}\n{"file', r"metadata\.jsonl: line 2 is no JSON"),
        ("metadata.jsonl", "[1]", r"metadata\.jsonl: line 1 is no JSON object"),
        ("metadata.jsonl", '{"file_name": "a.png"}', r"metadata\.jsonl: line 1: needs a file name \(file_name\) and a caption"),
        ("metadata.jsonl", '{"file_name": "a.png", "prompt": "x", "split": "dev"}', r"line 1: split 'dev' is none of train, tune"),
        ("metadata.jsonl", '{"file_name": 5, "prompt": "x"}\n{"file_name": "z.png", "prompt": "x"}', r"metadata\.jsonl: line 1"),
        ("metadata.jsonl", '{"file_name": "a.png", "prompt": "b \\ud800"}', r"metadata\.jsonl: line 1: holds half a character"),
        ("captions.csv", 'file_name,prompt\na.png,"x\nb.png,y\n', r"captions\.csv: line 2: a quotation mark is opened and never closed"),
        ("captions.csv", "name,words\na.png,x\n", r"captions\.csv: line 2: needs a file name"),
        ("captions.csv", b"file_name,prompt\na.png,F\xfcchse\n", r"captions\.csv"),
        ("metadata.jsonl", b'{"file_name": "a.png", "prompt": "F\xfcchse"}', r"metadata\.jsonl"),
    ],
    ids=["no json", "no object", "no caption", "split", "number", "surrogate", "open quote", "headings", "latin-1 csv", "latin-1 jsonl"],
)
def test_a_caption_line_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    root = folder(tmp_path, {"a.png": png(1), "a.txt": "good"})
    (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(TableError, match=message):
        import_images(root, tmp_path / "out.parquet")


def test_an_empty_caption_is_none(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": png(1), "b.png": png(2), "captions.csv": b"file_name,prompt\na.png,x\nb.png,\n"})
    made, skipped = rows(tmp_path, root)
    assert ([r.prompt for r in made], [name for name, _ in skipped]) == (["x"], ["b.png"])
    assert import_images(root, tmp_path / "all.parquet", trigger="drawn").rows == 2


def test_pictures_that_cannot_be_read_here_are_listed(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": png(1), "a.txt": "x", "phone.HEIC": b"heic", "notes.md": b"words"})
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "scan.jfif").write_bytes(png(2))
    (root / "scan.txt").write_text("y")
    made, skipped = rows(tmp_path, root)
    assert [r.prompt for r in made] == ["x", "y"]
    assert skipped == [
        ("gone.jpg", "a link to a file that is not there"),
        ("phone.HEIC", "a kind of picture that cannot be read here; save it as JPEG or PNG"),
    ]


def test_a_text_file_that_is_not_unicode_costs_its_picture_only(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": png(1), "a.txt": "good", "b.png": png(2), "b.txt": b"F\xfcchse"})
    made, skipped = rows(tmp_path, root)
    assert [r.prompt for r in made] == ["good"]
    assert [name for name, _ in skipped] == ["b.png"]


def test_a_byte_order_mark_is_no_part_of_a_caption(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": png(1), "a.txt": "a cat".encode("utf-8-sig")})
    assert rows(tmp_path, root)[0][0].prompt == "a cat"


def test_png_and_jpeg_are_kept_as_they_are(tmp_path: Path) -> None:
    jpeg = encoded(random_picture("jpeg"), "JPEG")
    root = folder(tmp_path, {"a.png": png(1), "a.txt": "a", "b.jpeg": jpeg, "b.txt": "b"})
    assert [r.image for r in rows(tmp_path, root)[0]] == [png(1), jpeg]


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "GIF", "TIFF"])
def test_other_formats_are_converted_to_png_without_loss(tmp_path: Path, kind: str) -> None:
    image = random_picture("other").quantize(16).convert("RGB")
    blob = encoded(image, kind, lossless=True) if kind == "WEBP" else encoded(image, kind)
    root = folder(tmp_path, {f"a.{kind.lower()}": blob, "a.txt": "a"})
    stored = rows(tmp_path, root)[0][0].image
    assert stored.startswith(b"\x89PNG")
    assert picture(stored, 16).tobytes() == image.tobytes()


def test_a_png_in_jpegs_clothing_is_stored_as_what_it_is(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.jpg": png(1), "a.txt": "a"})
    assert picture(rows(tmp_path, root)[0][0].image, 16).tobytes() == picture(png(1), 16).tobytes()


def test_transparency_survives_conversion(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.webp": encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "WEBP", lossless=True), "a.txt": "a"})
    assert picture(rows(tmp_path, root)[0][0].image, 8).getpixel((2, 2)) == (255, 255, 255)


def test_large_pictures_are_reduced_and_turned_upright_once(tmp_path: Path) -> None:
    """Left half black, orientation 6 (turn clockwise): the upper half is black afterwards."""
    side = 2 * SHORTER_SIDE
    image = Image.new("RGB", (2 * side, side), "white")
    image.paste("black", (0, 0, side, side))
    exif = Image.Exif()
    exif[0x0112] = 6
    root = folder(tmp_path, {"a.jpg": encoded(image, "JPEG", exif=exif), "a.txt": "a"})
    blob = rows(tmp_path, root)[0][0].image
    with Image.open(io.BytesIO(blob)) as whole:
        assert whole.size == (SHORTER_SIDE, 2 * SHORTER_SIDE)
    stored = picture(blob, 64)
    assert stored.getpixel((32, 5)) == (0, 0, 0)
    assert stored.getpixel((32, 60)) == (255, 255, 255)


def test_progress_may_be_watched_and_captions_read_alone(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": png(1), "a.txt": "a", "b.png": png(2), "b.txt": "b"})
    seen: list[str] = []
    import_images(root, tmp_path / "out.parquet", track=lambda paths: (seen.extend(p.name for p in paths), paths)[1])
    assert seen == ["a.png", "b.png"]
    assert captions(root) == {}


def test_sixteen_bits_of_grey_are_scaled(tmp_path: Path) -> None:
    """Pillow would clip them to white."""
    root = folder(tmp_path, {"deep.txt": "a ramp"})
    ramp = np.linspace(0, 60_000, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(root / "deep.tiff")
    made, _ = rows(tmp_path, root)
    assert abs(np.asarray(picture(made[0].image, 64)).mean() - 30_000 / 257) < 3


def test_a_picture_that_breaks_the_library_is_only_listed(tmp_path: Path) -> None:
    """One wrong byte in its EXIF: Pillow raises a TypeError."""
    root = folder(tmp_path, {"good.png": png(1), "good.txt": "a square", "odd.txt": "a square"})
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
    whole = encoded(random_picture(2), "JPEG", exif=exif)
    wrong = whole.index(b"Exif") + 43
    (root / "odd.jpg").write_bytes(whole[:wrong] + b"\x01" + whole[wrong + 1 :])
    made, skipped = rows(tmp_path, root)
    assert len(made) == 1
    assert [name for name, _ in skipped] == ["odd.jpg"]
    assert "not a readable picture (TypeError" in skipped[0][1]


def test_pictures_without_a_caption_may_get_a_trigger_word(tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(tiny.png(i))
    (tmp_path / "1.txt").write_text("a cat")
    made = import_images(tmp_path, tmp_path / "out.parquet", trigger="sksstyle")
    assert (made.rows, made.skipped) == (2, [])
    assert [r.prompt for r in read_table((tmp_path / "out.parquet").read_bytes(), "x")] == ["sksstyle", "a cat"]


def test_the_same_picture_twice_is_taken_once_whatever_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(tiny.png(0))
    (tmp_path / "b.bmp").write_bytes(tiny.encoded(tiny.picture(0), "BMP"))
    (tmp_path / "c.png").write_bytes(tiny.png(1))
    made = import_images(tmp_path, tmp_path / "out.parquet", trigger="x")
    assert (made.rows, made.skipped) == (2, [("b.bmp", "the same picture as a.png")])
