"""Clustering finds planted groups and their number, and keeps ids and results steady."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from fedcore.clustering import Clusters, Vectors, absorb_small, cluster, nearest, unit

AXES = np.eye(8)


def planted(groups: dict[str, int], noise: float = 0.1) -> dict[str, Vectors]:
    """Client `<group><number>` near the axis of its group (a: 0, b: 1, …), of any length."""
    draw = np.random.default_rng(0)
    return {
        f"{g}{i}": (AXES[ord(g) - ord("a")] + noise * draw.standard_normal(8)) * draw.uniform(0.5, 3)
        for g, n in groups.items()
        for i in range(n)
    }


def group(requirements: dict[str, Vectors], k: int | None = None, *, min_size: int = 2, previous: Clusters | None = None) -> Clusters:
    return cluster(requirements, k=k, most=6, min_size=min_size, seed=0, previous=previous)


def by_letter(requirements: dict[str, Vectors]) -> list[list[str]]:
    return [sorted(c for c in requirements if c[0] == letter) for letter in sorted({c[0] for c in requirements})]


def ids(found: Clusters) -> dict[str, int]:
    return {client: i for i, members in found.members.items() for client in members}


@pytest.mark.parametrize("k", [None, 4])
def test_planted_groups_are_found_and_counted(k: int | None) -> None:
    requirements = planted({"a": 5, "b": 3, "c": 4, "d": 2})
    assert list(group(requirements, k).members.values()) == by_letter(requirements)


def test_clients_that_have_nothing_in_common_are_not_split() -> None:
    """Eight wishes at right angles: all distances are equal, so that every silhouette is 0."""
    assert group({f"c{i}": AXES[i] for i in range(8)}).members == {0: [f"c{i}" for i in range(8)]}


def test_centroids_are_unit_means_of_unit_vectors_and_the_silhouette_is_sklearns() -> None:
    requirements = planted({"a": 4, "b": 3})
    found = group(requirements)
    lengths = {c: v / np.linalg.norm(v) for c, v in requirements.items()}
    for i, members in found.members.items():
        mean = np.mean([lengths[c] for c in members], axis=0)
        np.testing.assert_allclose(found.centroids[i], mean / np.linalg.norm(mean))
    order = sorted(requirements)
    assert found.silhouette == pytest.approx(silhouette_score([lengths[c] for c in order], [c[0] for c in order]))


def test_the_order_of_arrival_does_not_matter() -> None:
    requirements = planted({"a": 4, "b": 4, "c": 4}, noise=0.5)
    first, second = group(requirements), group(dict(reversed(requirements.items())))
    assert first.members == second.members
    assert all(np.array_equal(first.centroids[i], second.centroids[i]) for i in first.centroids)


def test_ids_stay_with_their_groups_when_clients_leave_and_join() -> None:
    everybody = planted({"a": 4, "b": 4, "c": 4})
    before = group({c: everybody[c] for c in everybody if c not in ("a0", "c3")})
    after = group({c: everybody[c] for c in everybody if c not in ("a1", "a2", "b0")}, previous=before)
    assert {c: i for c, i in ids(after).items() if c in ids(before)} == {c: i for c, i in ids(before).items() if c in ids(after)}
    assert after.next_id == 3


def test_ids_follow_the_centroids_and_not_the_order_in_which_clusters_are_found() -> None:
    """Renamed clients are found in the reverse order; the ids must not move."""
    requirements = planted({"a": 3, "b": 3, "c": 3})
    before = group(requirements)
    renamed = {{"a": "z", "b": "y", "c": "x"}[c[0]] + c[1]: v for c, v in requirements.items()}
    assert ids(group(renamed, previous=before)) == {"x0": 2, "x1": 2, "x2": 2, "y0": 1, "y1": 1, "y2": 1, "z0": 0, "z1": 0, "z2": 0}


def test_a_new_group_gets_an_id_that_was_never_used() -> None:
    requirements = planted({"a": 3, "b": 3, "c": 3, "d": 3})
    three = group({c: v for c, v in requirements.items() if c[0] in "abc"})
    two = group({c: v for c, v in requirements.items() if c[0] in "ab"}, previous=three)
    assert two.next_id == three.next_id == 3
    again = group({c: v for c, v in requirements.items() if c[0] in "abd"}, previous=two)
    assert [ids(again)[c] for c in ("a0", "b0", "d0")] == [0, 1, 3]
    assert again.next_id == 4


def test_no_cluster_stays_below_the_smallest_size() -> None:
    requirements = planted({"a": 4, "b": 4, "c": 1})
    requirements["c0"] = AXES[2] + 0.5 * AXES[1]
    assert ids(group(requirements, 3, min_size=1))["c0"] == 2
    found = group(requirements, 3)
    assert list(found.members) == [0, 1]
    assert ids(found)["c0"] == ids(found)["b0"]
    assert list(group(requirements, 3, min_size=10).members.values()) == [sorted(requirements)]


def test_small_clusters_are_dissolved_smallest_first() -> None:
    """On a line: the single point at 3 joins the pair at 4, which is three clients then and stays."""
    line = np.array([0.0, 0.1, 0.2, 3.0, 4.0, 4.2])[:, None]
    assert absorb_small(line, np.array([0, 0, 0, 1, 2, 2]), 3).tolist() == [0, 0, 0, 2, 2, 2]


def test_fewer_different_wishes_than_clusters_are_not_split() -> None:
    requirements = {f"c{i}": AXES[i % 2] for i in range(6)}
    assert group(requirements, 4).members == {0: ["c0", "c2", "c4"], 1: ["c1", "c3", "c5"]}
    assert group(dict.fromkeys("abcd", AXES[0])).members == {0: ["a", "b", "c", "d"]}


@pytest.mark.parametrize("k", [None, 3])
def test_wishes_that_differ_in_length_only_are_one_wish(k: int | None) -> None:
    wish = np.random.default_rng(0).standard_normal(16)
    assert group({f"c{i}": wish * (i + 1) / 3 for i in range(6)}, k).members == {0: [f"c{i}" for i in range(6)]}


@pytest.mark.parametrize("k", [None, 3])
def test_one_client_is_one_cluster(k: int | None) -> None:
    found = group({"only": 2 * AXES[1]}, k)
    assert (found.members, found.next_id, found.silhouette) == ({0: ["only"]}, 1, None)
    np.testing.assert_array_equal(found.centroids[0], AXES[1])


def test_unit_vectors_leave_zero_at_zero() -> None:
    np.testing.assert_allclose(unit(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])


def test_a_newcomer_goes_where_the_cosine_is_largest_whatever_its_length() -> None:
    centroids = {1: np.array([0.1, 0.9]), 3: np.array([1.0, 0.0]), 7: np.array([0.6, 0.8])}
    clusters = Clusters({1: [], 3: ["a"], 7: ["b"]}, centroids, 8, None)
    assert nearest(np.array([0.1, 0.9]), clusters) == 7  # nobody is in 1
    assert nearest(np.array([50.0, 1.0]), clusters) == 3
    assert nearest(np.array([0.0, 0.0]), clusters) == 3
