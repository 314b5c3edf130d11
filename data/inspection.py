"""What a client would train on: counts, sizes, what to look at again, and a contact sheet. Read on the client's side only."""

from collections import Counter
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.import_images import look
from data.tables import Row, opened, picture
from fedcore.errors import TableError


@dataclass(frozen=True)
class Inspection:
    """Pictures by split, their sides in pixels (least, middle, largest of the shorter side), the cropped share of the area.

    `remarks`: row and what is odd about it, in words.
    """

    splits: dict[str, int]
    sides: tuple[int, int, int]
    cropped: float
    words: float
    remarks: list[tuple[int, str]]


def inspection(rows: list[Row], size: int) -> Inspection:
    """Of a table's rows, for a base that draws pictures of `size` pixels."""
    sides, cropped, remarks = list[int](), list[float](), list[tuple[int, str]]()
    first: dict[bytes, int] = {}
    for row in rows:
        try:
            image = opened(row.image)
        except TableError as error:
            remarks.append((row.index, str(error)))
            continue
        sides.append(min(image.size))
        cropped.append(1 - min(image.size) / max(image.size))
        if min(image.size) < size:
            remarks.append((row.index, f"{image.width}×{image.height} has a side below {size} pixels: it is enlarged, and blurred"))
        if (before := first.setdefault(look(row.image), row.index)) != row.index:
            remarks.append((row.index, f"the same picture as row {before}"))
        if not row.prompt.strip():
            remarks.append((row.index, "no caption"))
    words = sum(len(row.prompt.split()) for row in rows) / len(rows)
    middle = (min(sides), int(median(sides)), max(sides)) if sides else (0, 0, 0)
    share = sum(cropped) / len(cropped) if cropped else 0.0
    return Inspection(dict(Counter(row.split for row in rows)), middle, share, words, remarks)


def as_trained(rows: list[Row], size: int) -> tuple[Tensor, list[str]]:
    """The pictures as training sees them, uint8 (n, 3, size, size), those that cannot be read left out; and the rows' numbers.

    Raises:
        TableError: none can be read.
    """
    out, names = list[Tensor](), list[str]()
    for row in rows:
        try:
            image: Image.Image = picture(row.image, size)
        except TableError:
            continue
        out.append(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1))
        names.append(f"{row.index} {row.split}")
    if not out:
        raise TableError("none of its pictures can be read")
    return torch.stack(out), names
