"""The gallery puts every picture where its row and column meet."""

import numpy as np
import torch

from data.gallery import GAP, contact_sheet, gallery
from fedcore.seeds import generator

ROWS = {
    name: torch.randint(0, 256, (3, 3, 20, 24), generator=generator(0, name), dtype=torch.uint8)
    for name in ("base", "cluster 0, long name")
}
PROMPTS = ("cat", "dog", "house")


def test_every_picture_stands_in_its_row_and_column_counted_from_the_lower_right() -> None:
    sheet = np.asarray(gallery(ROWS, PROMPTS, enlarge=1))
    for i, pictures in enumerate(ROWS.values()):
        for j, picture in enumerate(pictures):
            bottom, right = (2 - i) * (20 + GAP), (3 - j) * (24 + GAP)
            y, x = sheet.shape[0] - bottom, sheet.shape[1] - right
            np.testing.assert_array_equal(sheet[y : y + 20, x : x + 24], picture.permute(1, 2, 0).numpy())


def test_pictures_are_enlarged_and_labels_fit_beside_and_above() -> None:
    small, large = gallery(ROWS, PROMPTS, enlarge=1), gallery(ROWS, PROMPTS, enlarge=3)
    assert (large.width - small.width, large.height - small.height) == (3 * 2 * 24, 2 * 2 * 20)
    left, top = small.width - 3 * (24 + GAP), small.height - 2 * (20 + GAP)
    sheet = np.asarray(small)
    assert sheet[top:, :left].min() < 128
    assert sheet[:top, left:].min() < 128
    assert sheet[:, :4].min() == 255
    assert sheet[:, left - 4 : left].min() == 255


def test_a_contact_sheet_fills_row_by_row_with_the_name_below() -> None:
    pictures = torch.cat(list(ROWS.values()))
    sheet = np.asarray(contact_sheet(pictures, [f"picture {i}" for i in range(6)], columns=4, enlarge=1))
    for i, picture in enumerate(pictures):
        row, column = divmod(i, 4)
        y, x = row * sheet.shape[0] // 2, column * (24 + GAP)
        np.testing.assert_array_equal(sheet[y : y + 20, x : x + 24], picture.permute(1, 2, 0).numpy())
        assert sheet[y + 22 : y + 40, x : x + 24].min() < 128
