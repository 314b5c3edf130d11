"""What a split costs, and which one is chosen; ways of mixing set against each other."""

from dataclasses import replace

import numpy as np
import pytest

from fedcore.statistics import Interval
from flows.benchmarks.hybrid import ways
from flows.benchmarks.split import STEPS, Costs, Point, agreement, markdown, quickest, splits

SAME = Interval(0.0, -0.01, 0.01)
ALONE = Point("own", 0, 0.5, SAME, 0.5, SAME, Interval(1.0, 1.0, 1.0))
COSTS = Costs({1: 0.1, 4: 0.2, 16: 0.4}, 0.05, {"own": 20_000, "generic": 1_000}, dict.fromkeys((0, 2, 5, 10, 15, 20), 4_000))
POINTS = [ALONE, *(replace(ALONE, variant=variant, done=done) for variant, done in splits())]


def test_server_work_for_each_user_falls_with_the_batch_and_device_work_with_the_split() -> None:
    assert [COSTS.server(10, users) for users in (1, 4, 16)] == pytest.approx([1.0, 0.5, 0.25])
    assert COSTS.device(STEPS) == pytest.approx(0.05)
    assert COSTS.device(0, 0.5) == pytest.approx(2 * COSTS.device(0))


def test_a_wait_is_the_servers_batch_the_link_and_the_device() -> None:
    point = next(p for p in POINTS if (p.variant, p.done) == ("own", 5))
    assert COSTS.wait(point, 4, 0.5, 8.0) == pytest.approx(5 * 0.2 + 24_000 / 1e6 + (15 * 0.1 + 0.05) / 0.5)
    assert COSTS.wait(ALONE, 4, 0.5, 8.0) == COSTS.device(0, 0.5)
    assert COSTS.bytes(ALONE) == 0


def test_the_quickest_split_depends_on_device_and_link_and_on_what_is_lost() -> None:
    own = [p for p in POINTS if p.variant == "own"]
    assert quickest(own, COSTS, 1, 0.1, 100).done == STEPS
    assert quickest(own, COSTS, 1, 2.0, 100) == ALONE
    assert quickest(own, COSTS, 1, 0.9, 0.001) == ALONE
    lossy = [replace(p, lost=Interval(0.1, 0.05, 0.15)) if p.done > 10 else p for p in own]
    assert quickest(lossy, COSTS, 1, 0.1, 100).done == 10
    distant = [replace(p, farther=Interval(0.11, 0.01, 0.2)) if p.done > 2 else p for p in own]
    assert quickest(distant, COSTS, 1, 0.1, 100).done == 2
    others = [replace(p, agreement=Interval(0.8, 0.7, 0.95)) if p.done > 5 else p for p in own]
    assert quickest(others, COSTS, 1, 0.1, 100).done == 5


def test_the_table_has_a_line_for_every_split() -> None:
    lines = markdown(POINTS, COSTS).splitlines()
    assert len(lines) == 2 + len(POINTS)
    assert len({line.count("|") for line in lines}) == 1
    (row,) = [line for line in lines if line.startswith("| own | 10 of 20")]
    assert row.endswith(
        "| 500 | 0.0 [-10.0, 10.0] | 50 % | 0.0 [-1.0, 1.0] % | 1.00 [1.00, 1.00] | 1.000 | 0.500 | 0.250 | 1.050 | 24,000 |"
    )


def test_pictures_agree_as_their_features_point_alike_seen_from_the_middle() -> None:
    real = {"a": np.array([[2.0, 1.0]]), "b": np.array([[0.0, 1.0]])}  # the middle is (1, 1)
    mine = np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 2.0]])
    theirs = np.array([[2.0, 1.0], [1.0, 0.0], [2.0, 1.0]])
    assert agreement(mine, theirs, real) == pytest.approx([1.0, -1.0, 0.5**0.5])


def test_ways_of_mixing_are_set_against_the_sum_pair_by_pair() -> None:
    found = ways({"sum": [0.1, 0.2, 0.3], "composite": [0.2, 0.3, 0.4], "switch": [0.0, 0.1, 0.2]}, 0)
    assert [way.name for way in found] == ["composite", "sum", "switch"]
    assert [way.more.mean for way in found] == pytest.approx([0.1, 0.0, -0.1])
    assert [way.passes for way in found] == [2, 1, 1]
