"""Moves and drawn variants, against hand-made pictures and Pillow."""

import pytest
import torch
from PIL import Image

from fedcore.pretraining.pictures import VARIANTS, grey, line_art, move, outlined, pastel, silhouette
from fedcore.seeds import generator


def square(colour: tuple[float, float, float]) -> torch.Tensor:
    """A square of 16 pixels in the middle of a white 32×32 picture."""
    picture = torch.ones(1, 3, 32, 32)
    picture[:, :, 8:24, 8:24] = torch.tensor(colour)[None, :, None, None]
    return picture


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_white_canvas_stays_white_and_values_stay_in_range(variant: str) -> None:
    torch.testing.assert_close(VARIANTS[variant](torch.ones(1, 3, 16, 16)), torch.ones(1, 3, 16, 16))
    noise = torch.rand(2, 3, 16, 16, generator=generator(0)) * 2 - 1
    made = VARIANTS[variant](noise)
    assert made.shape == noise.shape
    assert -1.9 <= float(made.min()) <= float(made.max()) <= 1.0001


def test_grey_is_the_luminance_that_pillow_computes() -> None:
    values = torch.randint(0, 256, (1, 3, 16, 16), generator=generator(0), dtype=torch.uint8)
    want = torch.frombuffer(bytearray(Image.fromarray(values[0].permute(1, 2, 0).numpy()).convert("L").tobytes()), dtype=torch.uint8)
    made = (grey(values.float() / 127.5 - 1) + 1) * 127.5
    assert torch.equal(made[0, 0], made[0, 1])
    assert float((made[0, 0].flatten() - want).abs().max()) <= 1


def test_line_art_draws_the_contour_and_nothing_else() -> None:
    """A stroke of three pixels: one on either side of each edge, black; the middle and the margin stay white."""
    drawn = line_art(square((1, -1, -1)))[0, 0]
    assert drawn[16, 7:9].tolist() == [-1, -1]
    assert set(drawn[10:22, 10:22].flatten().tolist()) == set(drawn[:6].flatten().tolist()) == {1.0}


def test_outlines_leave_the_colour_inside() -> None:
    drawn = outlined(square((1, -1, 0)))[0]
    assert drawn[:, 16, 16].tolist() == [1, -1, 0]
    assert drawn[:, 16, 8].tolist() == [-1, -1, -1]


def test_a_silhouette_fills_dark_shapes_and_leaves_light_ones_open() -> None:
    assert float(silhouette(square((0.2, -0.5, -1)))[0, 0, 16, 16]) == -1
    assert float(silhouette(square((0.95, 0.95, 0.9)))[0, 0, 16, 16]) == 1


def test_pastel_halves_the_distance_to_white() -> None:
    assert pastel(square((1, -1, 0)))[0, :, 16, 16].tolist() == [1, 0, 0.5]


def test_moves_keep_white_ground_scale_areas_and_stay_on_the_canvas() -> None:
    """The square's ink, 16² pixels of depth 2, shrinks with the square of the scale."""
    pictures = square((-1, -1, -1)).expand(64, -1, -1, -1)
    made = move(pictures, generator(0), smallest=0.5)
    ink = (1 - made).sum(dim=(1, 2, 3)) / (1 - pictures).sum(dim=(1, 2, 3))
    assert 0.2 < float(ink.min()) < 0.35
    assert 0.85 < float(ink.max()) < 1.05
    assert float(made.max()) <= 1.0001
    assert len({tuple(torch.nonzero(p[0] < 0)[0].tolist()) for p in made}) > 20


def test_half_of_the_pictures_are_mirrored_unless_forbidden() -> None:
    """Ink in columns 4 to 13, not scaled, moved by a pixel at most: after mirroring it is in the right half."""
    pictures = torch.ones(200, 3, 32, 32)
    pictures[..., 4:14] = -1
    mirrored = {flip: int((move(pictures, generator(0), smallest=1.0, flip=flip)[:, 0, 16, 23] < 0).sum()) for flip in (True, False)}
    assert mirrored[False] == 0
    assert 70 < mirrored[True] < 130
