"""Every way of grouping finds planted groups; soft shares and clients' own choices in closed form."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcore.clustering import CLUSTERINGS, Clusters, chosen, cluster, drawn, soft_shares, unit
from fedcore.clustering.methods import MANY, choose_k, in_k_means, silhouette

GROUPED = sorted(set(CLUSTERINGS) - {"alone"})


def planted(per_group: int, groups: int = 4, noise: float = 0.05, dims: int = 16) -> NDArray[np.float64]:
    """Points around orthogonal directions, group by group."""
    draw = np.random.default_rng(0)
    return unit(np.repeat(np.eye(dims)[:groups], per_group, axis=0) + noise * draw.standard_normal((per_group * groups, dims)))


def wishes(vectors: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return {f"c{i:03}": v for i, v in enumerate(vectors)}


@pytest.mark.parametrize("method", GROUPED)
def test_planted_groups_are_found_with_their_number(method: str) -> None:
    found = cluster(wishes(planted(8)), k=None, most=8, min_size=2, seed=0, method=method)
    assert [len(m) for m in found.members.values()] == [8, 8, 8, 8]
    assert found.members[0] == [f"c{i:03}" for i in range(8)]


def test_a_number_of_groups_that_makes_one_too_small_is_not_chosen() -> None:
    """Two groups of eight and one of two."""
    vectors = np.vstack([planted(8)[:16], planted(2)[4:6]])
    assert [choose_k(in_k_means, vectors, 0, most=6, min_size=least, settled=False) for least in (1, 2, 3)] == [3, 3, 2]


@pytest.mark.parametrize("method", GROUPED)
def test_who_lies_between_the_groups_still_has_one(method: str) -> None:
    vectors = np.vstack([planted(8), unit(np.ones((1, 16)))])
    found = cluster(wishes(vectors), k=None, most=8, min_size=2, seed=0, method=method)
    assert sorted(c for m in found.members.values() for c in m) == sorted(wishes(vectors))


@pytest.mark.parametrize("method", GROUPED)
@pytest.mark.parametrize("clients", [1, 2])
def test_one_or_two_clients_are_grouped_too(method: str, clients: int) -> None:
    found = cluster(wishes(planted(1)[:clients]), k=None, most=8, min_size=2, seed=0, method=method)
    assert [len(m) for m in found.members.values()] == [clients]


@pytest.mark.parametrize("method", GROUPED)
def test_fewer_clients_than_a_cluster_must_have_are_one(method: str) -> None:
    found = cluster(wishes(planted(1)), k=None, most=8, min_size=9, seed=0, method=method)
    assert [len(m) for m in found.members.values()] == [4]


def test_alone_everybody_is_a_cluster_and_keeps_its_id() -> None:
    first = cluster(wishes(planted(2)), k=None, most=2, min_size=5, seed=0, method="alone")
    assert first.members == {i: [f"c{i:03}"] for i in range(8)}
    without = {c: v for c, v in wishes(planted(2)).items() if c != "c003"}
    assert cluster(without, k=None, most=2, min_size=5, seed=0, method="alone", previous=first).members == {
        i: [f"c{i:03}"] for i in range(8) if i != 3
    }


def test_clients_can_be_grouped_by_other_vectors_than_their_wishes() -> None:
    alike = wishes(np.tile(unit(np.ones((1, 16))), (8, 1)))
    found = cluster(alike, k=None, most=8, min_size=2, seed=0, vectors=planted(4, groups=2))
    assert list(found.members.values()) == [[f"c{i:03}" for i in range(4)], [f"c{i:03}" for i in range(4, 8)]]
    np.testing.assert_allclose(found.centroids[0], unit(np.ones(16)))  # a newcomer has nothing but a wish


def test_ids_follow_the_members_even_where_all_wish_alike() -> None:
    alike, groups = wishes(np.tile(unit(np.ones((1, 16))), (8, 1))), planted(4, groups=2)
    before = cluster(alike, k=2, most=8, min_size=2, seed=0, vectors=groups)
    old = Clusters({5: before.members[0], 3: before.members[1]}, {5: before.centroids[0], 3: before.centroids[1]}, 6, None)
    now = cluster(alike, k=2, most=8, min_size=2, seed=1, vectors=groups, previous=old)
    assert now.members == {3: before.members[1], 5: before.members[0]}
    assert now.next_id == 6


def test_soft_shares_are_the_softmax_of_cosines_without_the_small_ones() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [math.sqrt(0.5), math.sqrt(0.5)]])
    made = soft_shares(["a", "b", "c"], vectors, {0: ["a"], 4: ["b"]}, 0.5)
    near = math.exp(2) / (math.exp(2) + 1)
    assert made["a"] == pytest.approx({0: near, 4: 1 - near})
    assert made["c"] == pytest.approx({0: 0.5, 4: 0.5})
    assert soft_shares(["a", "b", "c"], vectors, {0: ["a"], 4: ["b"]}, 0.1)["a"] == {0: 1.0}


def test_clients_that_choose_are_where_they_chose() -> None:
    made = chosen({"a": np.array([2.0, 0.0]), "b": np.array([0.0, 1.0]), "c": np.array([1.0, 0.0])}, {"a": 3, "b": 1, "c": 3}, None)
    assert made.members == {1: ["b"], 3: ["a", "c"]}
    np.testing.assert_allclose(made.centroids[3], [1, 0])
    assert made.next_id == 4
    later = chosen({"a": np.array([0.0, 2.0]), "b": np.array([0.0, 1.0])}, {"a": 1, "b": 1}, made)
    assert (later.members, later.next_id) == ({1: ["a", "b"], 3: []}, 4)
    np.testing.assert_allclose(later.centroids[3], [1, 0])  # nobody's now, somebody's again, perhaps


def test_what_is_drawn_for_a_client_is_its_own_and_spreads_over_all_clusters() -> None:
    found = [drawn(f"c{i}", 3, 0) for i in range(60)]
    assert found == [drawn(f"c{i}", 3, 0) for i in range(60)]
    assert set(found) == {0, 1, 2}
    assert found != [drawn(f"c{i}", 3, 1) for i in range(60)]


def test_very_many_clients_are_grouped_in_small_batches() -> None:
    vectors = planted(MANY // 4 + 1)
    labels = in_k_means(vectors, 4, 0)
    assert [len(set(labels[i * (MANY // 4 + 1) : (i + 1) * (MANY // 4 + 1)].tolist())) for i in range(4)] == [1, 1, 1, 1]
    assert silhouette(vectors, labels, 0) > 0.7


def test_a_sample_says_how_many_groups_very_many_clients_make() -> None:
    each = MANY // 4 + 1
    found = cluster(wishes(planted(each)), k=None, most=8, min_size=2, seed=0)
    assert [len(m) for m in found.members.values()] == [each] * 4


@pytest.mark.parametrize(("clients", "dims"), [(12, 16), (42, 8), (200, 16)])
def test_what_has_no_structure_is_not_split(clients: int, dims: int) -> None:
    split = 0
    for seed in range(8):
        vectors = unit(np.random.default_rng(seed).standard_normal((clients, dims)))
        split += len(cluster(wishes(vectors), k=None, most=8, min_size=2, seed=seed).members) > 1
    assert split <= 1


def test_a_faint_structure_is_found_where_no_silhouette_is_high() -> None:
    """Four groups in much noise: a silhouette below 0.25, yet far above chance."""
    vectors = planted(15, noise=0.3)
    found = cluster(wishes(vectors), k=None, most=8, min_size=2, seed=0)
    assert found.silhouette is not None
    assert found.silhouette < 0.25
    assert [len(m) for m in found.members.values()] == [15, 15, 15, 15]


def test_groups_stay_where_they_would_not_appear() -> None:
    """As where clients took part by turns: in the second round there is so much noise that chance does nearly as well."""
    draw = np.random.default_rng(3)
    centres = unit(draw.standard_normal((4, 8)))
    clear, faint = (wishes(unit(np.repeat(centres, 10, axis=0) + noise * draw.standard_normal((40, 8)))) for noise in (0.1, 0.6))
    before = [None, *(cluster(clear, k=k, most=8, min_size=2, seed=0) for k in (1, None))]
    assert [len(of.members) if of else 0 for of in before] == [0, 1, 4]
    found = [cluster(faint, k=None, most=8, min_size=2, seed=0, previous=of) for of in before]
    assert [len(clusters.members) > 1 for clusters in found] == [False, False, True]


def test_groups_of_which_nothing_is_left_do_not_stay_for_long() -> None:
    found = cluster(wishes(planted(10, dims=8)), k=None, most=8, min_size=2, seed=0)
    draw, numbers = np.random.default_rng(0), list[int]()
    for seed in range(6):
        vectors = unit(draw.standard_normal((40, 8)))
        found = cluster(wishes(vectors), k=None, most=8, min_size=2, seed=seed, previous=found)
        numbers.append(len(found.members))
    assert numbers[-1] == 1
