"""Groups clients by their encoded requirements: k-means on unit vectors, k given or chosen by silhouette, ids stable over rounds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from fedcore.seeds import derive

Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """`members`: cluster id → client ids, sorted. `centroids`: cluster id → unit vector (dims,). `next_id`: never used so far."""

    members: dict[int, list[str]]
    centroids: dict[int, Vectors]
    next_id: int
    silhouette: float | None


def unit(vectors: Vectors) -> Vectors:
    """Rows scaled to length one; zero rows stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    out: Vectors = vectors / np.where(length > 0, length, 1)
    return out


def k_means(vectors: Vectors, k: int, seed: int) -> NDArray[np.int64]:
    """Labels 0..k−1 by scikit-learn's k-means, its random state derived from `seed`."""
    model = KMeans(k, n_init=10, random_state=derive(seed, "k-means", k) % 2**32)
    labels: NDArray[np.int64] = model.fit_predict(vectors).astype(np.int64)
    return labels


def choose_k(vectors: Vectors, seed: int, *, most: int, min_size: int) -> int:
    """The k in 2..most with the best silhouette among those whose clusters all reach `min_size`.

    1 where no silhouette exceeds 0.25, below which there is no substantial structure (Kaufman & Rousseeuw 1990, table 4).
    """
    best, best_score = 1, 0.25
    for k in range(2, min(most, len(vectors) - 1) + 1):
        labels = k_means(vectors, k, seed)
        counts = np.bincount(labels, minlength=k)
        if counts.min() < min_size:
            continue
        score = silhouette_score(vectors, labels)
        if score > best_score:
            best, best_score = k, score
    return best


def absorb_small(vectors: Vectors, labels: NDArray[np.int64], min_size: int) -> NDArray[np.int64]:
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
    requirements: Mapping[str, Vectors], *, k: int | None, most: int, min_size: int, seed: int, previous: Clusters | None = None
) -> Clusters:
    """Group clients; the result does not depend on the order of `requirements`.

    `k` None lets silhouette choose, up to `most`. With `previous`, each new cluster takes the id of the old one it is
    matched to by the largest sum of centroid cosines (Hungarian method); a cluster without a match gets a fresh id.
    """
    clients = sorted(requirements)
    vectors = unit(np.stack([np.asarray(requirements[c], dtype=np.float64) for c in clients]))
    distinct = len(np.unique(vectors.round(9), axis=0))  # wishes that differ by rounding are one
    chosen = choose_k(vectors, seed, most=min(most, distinct), min_size=min_size) if k is None else min(k, distinct)
    labels = absorb_small(vectors, k_means(vectors, chosen, seed), min_size)
    found = sorted({int(label) for label in labels}, key=lambda label: clients[int(np.flatnonzero(labels == label)[0])])
    centroids = {i: unit(vectors[labels == label].mean(axis=0)) for i, label in enumerate(found)}
    ids = _matched(centroids, previous)
    members = {ids[i]: [c for c, label in zip(clients, labels, strict=True) if label == was] for i, was in enumerate(found)}
    score = float(silhouette_score(vectors, labels)) if 1 < len(found) < len(clients) else None
    return Clusters(
        members=dict(sorted(members.items())),
        centroids={ids[i]: centroids[i] for i in sorted(centroids, key=lambda i: ids[i])},
        next_id=max([*ids.values(), *((previous.next_id - 1,) if previous else ())]) + 1,
        silhouette=score,
    )


def nearest(requirement: Vectors, centroids: Mapping[int, Vectors]) -> int:
    """The cluster whose centroid has the largest cosine with a newcomer's requirement vector (the lowest id of equals)."""
    return min(centroids, key=lambda i: (-float(unit(requirement) @ centroids[i]), i))


def _matched(centroids: Mapping[int, Vectors], previous: Clusters | None) -> dict[int, int]:
    """Id for each new cluster: the matched old id, or the next unused one."""
    if previous is None:
        return {i: i for i in centroids}
    old = sorted(previous.centroids)
    gain = np.array([[float(centroids[i] @ previous.centroids[o]) for o in old] for i in sorted(centroids)])
    rows, columns = linear_sum_assignment(-gain)
    ids = {int(r): old[int(c)] for r, c in zip(rows, columns, strict=True)}
    fresh = previous.next_id
    for i in sorted(centroids):
        if i not in ids:
            ids[i], fresh = fresh, fresh + 1
    return ids
