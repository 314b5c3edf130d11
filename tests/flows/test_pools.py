"""Shards of nearly equal cost."""

from hypothesis import given
from hypothesis import strategies as st

from flows.pools import balanced

COSTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.floats(0.1, 100), min_size=1, max_size=30)


@given(COSTS, st.integers(1, 8))
def test_every_client_is_in_one_shard_and_no_shard_is_far_above_the_mean(costs: dict[str, float], shards: int) -> None:
    """Longest processing time first (Graham 1969): at most 4/3 of the best possible, which is at least the mean and the dearest client."""
    groups = balanced(costs, shards)
    assert sorted(c for group in groups for c in group) == sorted(costs)
    assert len(groups) == min(shards, len(costs))
    assert all(groups)
    dearest = sorted(costs.values(), reverse=True)
    bound = max(sum(costs.values()) / len(groups), dearest[0], dearest[len(groups)] * 2 if len(dearest) > len(groups) else 0)
    assert max(sum(costs[c] for c in group) for group in groups) <= 4 / 3 * bound * 1.0001 + 1e-9


def test_the_order_of_clients_does_not_matter() -> None:
    costs = {"a": 3.0, "b": 3.0, "c": 2.0, "d": 1.0}
    assert balanced(costs, 2) == balanced(dict(reversed(costs.items())), 2) == [["a", "c"], ["b", "d"]]
