"""The benchmarks' arithmetic."""

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.federations import read_federation
from fedcore.errors import ConfigError
from flows.benchmarks.clustering import GROUPS, grouping
from flows.benchmarks.overhead import Cost, covered
from flows.benchmarks.statements import statements

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda s: (s[0], s[0] + s[1])), max_size=12)


@given(SPANS)
def test_what_overlaps_counts_once(spans: list[tuple[int, int]]) -> None:
    assert covered(spans) == sum(any(begin <= second < end for begin, end in spans) for second in range(80))


def test_the_rest_is_what_nothing_was_computed_in() -> None:
    cost = Cost(round=2, wall=50.0, computing=48.0)
    assert (cost.rest, cost.share) == (pytest.approx(2.0), pytest.approx(0.04))


def test_hidden_groups_are_found_among_many() -> None:
    made = grouping(3000)
    assert (made.clients, made.clusters) == (3000, GROUPS)
    assert made.ari > 0.99
    assert 0 < made.before <= made.peak


def test_wishes_are_grouped_as_the_federation_says() -> None:
    """By the method that it names; and whoever is alone needs no wish."""
    file, words = Path("federations/demo.yaml"), Path("federations/paraphrases.yaml")
    federations = [read_federation(file, [f"clustering.method={m}", "clustering.min_size=4"], None) for m in ("hdbscan", "k-means")]
    (_, dense, ari), (_, close, _) = (list(islice(statements(file, f, words), 2))[1] for f in federations)
    assert (dense, ari, close) == (1, 0.0, 2)  # a style has three users: none are four, close together
    with pytest.raises(ConfigError, match=r"clustering\.method: alone looks at no wishes"):
        next(statements(file, read_federation(file, ["clustering.method=alone", "interaction.method=none"], None), words))
