"""Clusters of clients: members, centroids of their wishes, ids that stay from round to round."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedcore.clustering.methods import CLUSTERINGS, Labels, silhouette
from fedcore.clustering.vectors import Vectors, seen, unit
from fedcore.seeds import derive


@dataclass(frozen=True)
class Clusters:
    """`members`: cluster id → client ids, sorted. `centroids`: cluster id → unit vector of its members' mean wish (dims,).

    `next_id`: never used so far. `shares`: client → cluster id → share of the client's adapter that goes there, where
    membership is soft.
    """

    members: dict[int, list[str]]
    centroids: dict[int, Vectors]
    next_id: int
    silhouette: float | None
    shares: dict[str, dict[int, float]] = field(default_factory=dict)


def absorb_small(vectors: Vectors, labels: Labels, min_size: int) -> Labels:
    """Dissolve clusters below `min_size`, smallest first: each member joins the nearest remaining centroid."""
    labels = labels.copy()
    while True:
        ids, counts = np.unique(labels, return_counts=True)
        if len(ids) == 1 or counts.min() >= min_size:
            return labels
        small = ids[np.argmin(counts)]
        rest = [i for i in ids if i != small]
        centroids = np.stack([vectors[labels == i].mean(axis=0) for i in rest])
        for row in np.flatnonzero(labels == small):
            labels[row] = rest[int(np.argmin(np.linalg.norm(centroids - vectors[row], axis=1)))]


def cluster(
    requirements: Mapping[str, Vectors],
    *,
    k: int | None,
    most: int,
    min_size: int,
    seed: int,
    method: str = "k-means",
    vectors: Vectors | None = None,
    soft: float | None = None,
    previous: Clusters | None = None,
) -> Clusters:
    """Group clients; the result does not depend on the order of `requirements`.

    `k` None lets silhouette choose, up to `most`. Clients are grouped by `vectors` (clients in id order, dims; see `seen`),
    by default their wishes. With `previous`, each new cluster takes the id of the old one with which it shares most members,
    then of the nearest centroid (Hungarian method); one without a match gets a fresh id; where there were several, an automatic number
    falls less easily to one. `soft` is the temperature of soft membership, see `soft_shares`.
    """
    clients, wishes = sorted(requirements), seen("requirements", requirements, None)
    by = wishes if vectors is None else vectors
    settled = previous is not None and len(previous.members) > 1
    labels = CLUSTERINGS[method](by, k, most=most, min_size=min_size, seed=seed, settled=settled)
    if method != "alone":
        labels = absorb_small(by, labels, min_size)
    score = silhouette(by, labels, seed) if 1 < len(np.unique(labels)) < len(clients) else None
    made = _named(clients, labels, wishes, previous, score)
    if soft is None:
        return made
    return Clusters(made.members, made.centroids, made.next_id, score, soft_shares(clients, by, made.members, soft))


def _named(clients: list[str], labels: Labels, wishes: Vectors, previous: Clusters | None, score: float | None) -> Clusters:
    """Clusters from labels; new ones are numbered by their first client."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))[inverse]
    rows = np.argsort(order, kind="stable")
    found = [[clients[i] for i in part] for part in np.split(rows, np.cumsum(np.bincount(order))[:-1])]
    centroids = [unit(wishes[order == i].mean(axis=0)) for i in range(len(found))]
    ids = _matched(found, centroids, previous)
    members = {ids[i]: mine for i, mine in enumerate(found)}
    return Clusters(
        members=dict(sorted(members.items())),
        centroids=dict(sorted((ids[i], centroid) for i, centroid in enumerate(centroids))),
        next_id=max([*ids, *((previous.next_id - 1,) if previous else ())]) + 1,
        silhouette=score,
    )


def _matched(found: list[list[str]], centroids: list[Vectors], previous: Clusters | None) -> list[int]:
    """Id for each new cluster: the matched old id, or the next unused one."""
    if previous is None:
        return list(range(len(found)))
    from scipy.optimize import linear_sum_assignment  # half a second to import

    old = sorted(previous.centroids)
    of_old = {c: i for i, mine in previous.members.items() for c in mine}
    gain = np.array([[float(centroid @ previous.centroids[o]) / 4 for o in old] for centroid in centroids])
    for i, mine in enumerate(found):
        for client in mine:
            if client in of_old:
                gain[i, old.index(of_old[client])] += 1
    rows, columns = linear_sum_assignment(-gain)
    matched, fresh = dict(zip(rows.tolist(), columns.tolist(), strict=True)), previous.next_id
    ids = []
    for i in range(len(found)):
        if i in matched:
            ids.append(old[matched[i]])
        else:
            ids.append(fresh)
            fresh += 1
    return ids


SMALLEST_SHARE = 0.05


def soft_shares(clients: list[str], vectors: Vectors, members: Mapping[int, list[str]], temperature: float) -> dict[str, dict[int, float]]:
    """`softmax_c(cos(v_k, mean of cluster c) / T)` for every client; shares below 0.05 but the largest are dropped, the rest sum to one.

    Soft membership in federated clusters is FedSoft's (arXiv 2112.06053), by losses there and by cosines here.
    """
    row = {c: i for i, c in enumerate(clients)}
    ids = sorted(members)
    means = unit(np.stack([vectors[[row[c] for c in members[i]]].mean(axis=0) for i in ids]))
    logits = unit(vectors) @ means.T / temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    weights[(weights < SMALLEST_SHARE) & (weights < weights.max(axis=1, keepdims=True))] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return {c: {i: float(w) for i, w in zip(ids, weights[row[c]], strict=True) if w > 0} for c in clients}


def chosen(requirements: Mapping[str, Vectors], choices: Mapping[str, int], previous: Clusters | None) -> Clusters:
    """IFCA (arXiv 2006.04088): client k is in the cluster `argmin_c loss_k(adapter of c)` that it chose, under that id.

    One that nobody chose stays, for it may be chosen again.
    """
    wishes = {c: unit(np.asarray(v, dtype=np.float64)) for c, v in requirements.items()}
    members = {i: sorted(c for c in requirements if choices[c] == i) for i in sorted({choices[c] for c in requirements})}
    centroids = {i: unit(np.mean([wishes[c] for c in mine], axis=0)) for i, mine in members.items()}
    if previous is not None:
        members = {**{i: [] for i in previous.members}, **members}
        centroids = {**previous.centroids, **centroids}
    return Clusters(dict(sorted(members.items())), dict(sorted(centroids.items())), max(i + 1 for i in members), None)


def drawn(client: str, k: int, seed: int) -> int:
    """The cluster that a client begins in where nothing is known of it: IFCA needs different adapters to choose from."""
    return derive(seed, "ifca", client) % k


def nearest(requirement: Vectors, clusters: Clusters) -> int:
    """The cluster whose centroid has the largest cosine with a newcomer's requirement vector (the lowest id of equals).

    One that nobody is in takes nobody up.
    """
    centroids = {i: centroid for i, centroid in clusters.centroids.items() if clusters.members[i]}
    return min(centroids, key=lambda i: (-float(unit(requirement) @ centroids[i]), i))
