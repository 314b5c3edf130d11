"""What a client tells of its training."""

from statistics import fmean

import pytest

from tasks.train import curve


@pytest.mark.parametrize(("steps", "points"), [(1, 1), (20, 20), (100, 100), (250, 100), (1000, 100)])
def test_a_loss_curve_has_at_most_a_hundred_points_that_cover_every_step_once(steps: int, points: int) -> None:
    losses = [float(i) for i in range(steps)]
    drawn = curve(losses)
    assert len(drawn) == points
    assert drawn == sorted(drawn)
    if steps % points == 0:
        width = steps // points
        assert drawn == [fmean(losses[i * width : (i + 1) * width]) for i in range(points)]
