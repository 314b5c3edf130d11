"""Who takes part: shares, periods and stragglers, drawn from the seed alone."""

from collections import Counter
from dataclasses import replace

import pytest

from fedcore.participation import Habits, asked, reachable, steps_of

ALWAYS = Habits(share=1.0, available=1.0, period=1, stragglers=0.0, work=0.5)
CLIENTS = [f"c{i:02}" for i in range(40)]


def test_by_default_everybody_takes_part_with_all_steps() -> None:
    assert asked(CLIENTS[::-1], 3, ALWAYS, 0) == CLIENTS
    assert {steps_of(c, 3, 20, ALWAYS, 0) for c in CLIENTS} == {20}


def test_a_share_is_drawn_anew_each_round_and_everyone_s_turn_comes() -> None:
    habits = replace(ALWAYS, share=0.25)
    rounds = [asked(CLIENTS, n, habits, 0) for n in range(1, 61)]
    assert {len(r) for r in rounds} == {10}
    assert rounds[0] != rounds[1]
    assert rounds[0] == asked(list(reversed(CLIENTS)), 1, habits, 0) != asked(CLIENTS, 1, habits, 1)
    counts = Counter(c for r in rounds for c in r)
    assert min(counts.values()) > 5  # 15 expected
    assert asked(["only"], 1, replace(habits, share=0.01), 0) == ["only"]


def test_availability_is_a_share_of_the_time() -> None:
    online = [sum(reachable(c, n, replace(ALWAYS, available=0.7), 0) for c in CLIENTS) for n in range(1, 51)]
    assert sum(online) / (50 * 40) == pytest.approx(0.7, abs=0.03)


def test_with_a_period_each_client_comes_and_goes_at_its_own_hours() -> None:
    habits = replace(ALWAYS, available=0.5, period=8)
    for client in CLIENTS:
        hours = [reachable(client, n, habits, 0) for n in range(1, 25)]
        assert hours[:8] == hours[8:16] == hours[16:]
        assert sum(hours[:8]) == 4
    assert len({tuple(reachable(c, n, habits, 0) for n in range(8)) for c in CLIENTS}) > 4


@pytest.mark.parametrize(("available", "period"), [(0.6, 4), (0.1, 4), (0.35, 7)])
def test_the_share_of_the_time_holds_over_clients_where_a_period_cannot_be_divided_so(available: float, period: int) -> None:
    habits, many = replace(ALWAYS, available=available, period=period), [f"c{i}" for i in range(2000)]
    assert sum(reachable(c, 1, habits, 0) for c in many) / 2000 == pytest.approx(available, abs=0.03)


def test_all_are_asked_where_nobody_is_online() -> None:
    assert asked(["a", "b"], 1, replace(ALWAYS, available=1e-9), 0) == ["a", "b"]
    assert asked([], 1, ALWAYS, 0) == []


def test_stragglers_manage_a_part_of_the_steps() -> None:
    habits = replace(ALWAYS, stragglers=0.3, work=0.25)
    managed = [steps_of(c, n, 20, habits, 0) for c in CLIENTS for n in range(1, 26)]
    assert set(managed) == {5, 20}
    assert managed.count(5) / 1000 == pytest.approx(0.3, abs=0.05)
    assert steps_of("c", 1, 1, replace(habits, stragglers=1.0), 0) == 1
