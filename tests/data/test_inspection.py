"""What a table holds, told before anybody trains on it."""

import pytest
import torch
from PIL import Image

from data.inspection import as_trained, inspection
from data.tables import Row
from fedcore.errors import TableError
from tests.tiny import encoded, picture


def row(index: int, image: bytes, prompt: str = "a red cat", split: str = "train") -> Row:
    return Row(index, image, prompt, split)  # type: ignore[arg-type]


ROWS = [
    row(0, encoded(picture(0, size=(64, 32)))),
    row(1, encoded(picture(1, size=(40, 80))), "cat"),
    row(2, encoded(picture(0, size=(64, 32)), "BMP"), split="test"),
    row(3, encoded(picture(2, size=(8, 40))), " "),
    row(4, b"no picture"),
]


def test_counts_sizes_and_remarks() -> None:
    found = inspection(ROWS, 32)
    assert found.splits == {"train": 4, "test": 1}
    assert found.sides == (8, 32, 40)
    assert found.cropped == (0.5 + 0.5 + 0.5 + 0.8) / 4
    assert found.words == (3 + 1 + 3 + 0 + 3) / 5
    assert found.remarks == [
        (2, "the same picture as row 0"),
        (3, "8×40 has a side below 32 pixels: it is enlarged, and blurred"),
        (3, "no caption"),
        (4, "not a readable picture (no known image format)"),
    ]


def test_pictures_are_shown_as_training_sees_them() -> None:
    made, names = as_trained(ROWS, 32)
    assert (made.shape, made.dtype) == ((4, 3, 32, 32), torch.uint8)
    assert names == ["0 train", "1 train", "2 test", "3 train"]
    middle = Image.fromarray(made[0].permute(1, 2, 0).numpy())
    assert middle.tobytes() == picture(0, size=(64, 32)).crop((16, 0, 48, 32)).tobytes()
    with pytest.raises(TableError, match="none of its pictures can be read"):
        as_trained([ROWS[4]], 32)
