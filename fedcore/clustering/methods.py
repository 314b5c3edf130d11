"""Ways of grouping vectors: one Protocol, one registry. scikit-learn is imported where it is used: it takes a second."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedcore.clustering.vectors import MANY, Vectors, unit
from fedcore.seeds import derive

Labels = NDArray[np.int64]
SAMPLE = 2_000
"""So many of very many tell how good a number of groups is."""


class Group(Protocol):
    """Labels 0… of vectors."""

    def __call__(self, vectors: Vectors, k: int | None, *, most: int, min_size: int, seed: int, settled: bool) -> Labels:
        """`vectors` (n, dims) of unit length; `k` None: as many groups as the data have, up to `most`, none below `min_size`.

        `settled`: there have been several groups before.
        """


class Divide(Protocol):
    """Labels for a given number of groups."""

    def __call__(self, vectors: Vectors, k: int, seed: int) -> Labels:
        """`k` at most the number of distinct vectors."""


def in_k_means(vectors: Vectors, k: int, seed: int) -> Labels:
    """Least `Σ_i ‖v_i − μ_{c(i)}‖²` by scikit-learn's k-means++ (Arthur & Vassilvitskii 2007), its random state derived from `seed`.

    In small batches for very many clients (Sculley 2010).
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    state = derive(seed, "k-means", k) % 2**32
    many = len(vectors) > MANY
    model = MiniBatchKMeans(k, n_init=3, batch_size=4096, random_state=state) if many else KMeans(k, n_init=10, random_state=state)
    labels: Labels = model.fit_predict(vectors).astype(np.int64)
    return labels


def by_average_linkage(vectors: Vectors, k: int, seed: int) -> Labels:  # noqa: ARG001 nothing is drawn
    """Agglomerative (UPGMA, Sokal & Michener 1958), until k groups are left.

    The two with the largest `mean_{i∈A, j∈B} cos(v_i, v_j)` are merged.
    """
    from sklearn.cluster import AgglomerativeClustering

    labels: Labels = AgglomerativeClustering(k, metric="cosine", linkage="average").fit_predict(vectors).astype(np.int64)
    return labels


def silhouette(vectors: Vectors, labels: Labels, seed: int) -> float:
    """Mean of `(b_i − a_i) / max(a_i, b_i)` (Rousseeuw 1987), of a sample of the clients where there are very many.

    a_i is the mean distance to the own group's others, b_i that to the nearest other group.
    """
    from sklearn.metrics import silhouette_score

    if len(vectors) <= MANY:
        return float(silhouette_score(vectors, labels))
    return float(silhouette_score(vectors, labels, sample_size=SAMPLE, random_state=derive(seed, "silhouette") % 2**32))


COPIES = 20
"""Shuffled copies that tell how good a silhouette chance alone would give."""
TO_APPEAR, TO_STAY = 3, 1
"""Standard deviations by which groups must be better than chance.

Where clients take part by turns, a round may tell groups from chance less surely than the one before. Groups, and what their
adapters have learnt, outlive such a round; those of which nothing is left go within a few.
"""


def chance(divide: Divide, vectors: Vectors, k: int, seed: int, deviations: float) -> float:
    """The silhouette that k groups must exceed: mean and so many standard deviations over copies without structure.

    In a copy every coordinate is shuffled among the clients by itself, so that its spread stays and what belonged together is
    torn apart (as the reference of the gap statistic, Tibshirani et al. 2001); rows are brought back to length one.
    """
    rows, found = vectors[:SAMPLE], list[float]()
    for copy in range(COPIES):
        draw = np.random.Generator(np.random.PCG64(derive(seed, "chance", copy)))
        shuffled = unit(np.stack([draw.permutation(column) for column in rows.T], axis=1))
        if len(np.unique(labels := divide(shuffled, k, seed))) > 1:
            found.append(silhouette(shuffled, labels, seed))
    return float(np.mean(found) + deviations * np.std(found)) if found else 1.0


def choose_k(divide: Divide, vectors: Vectors, seed: int, *, most: int, min_size: int, settled: bool) -> int:
    """The k in 2..most with the best silhouette among those whose clusters all reach `min_size`; 1 where chance would do as well.

    How surely it must be better than chance depends on whether there are several groups already, `settled`.
    Of more than `MANY` clients a sample decides, in which a cluster may be smaller in proportion.
    """
    if len(vectors) > MANY:
        drawn = np.random.Generator(np.random.PCG64(derive(seed, "sample"))).permutation(len(vectors))[:SAMPLE]
        vectors, min_size = vectors[np.sort(drawn)], max(1, min_size * SAMPLE // len(vectors))
    best, best_score = 1, -1.0
    for k in range(2, min(most, len(vectors) - 1) + 1):
        labels = divide(vectors, k, seed)
        counts = np.bincount(labels, minlength=k)
        if counts.min() < min_size:
            continue
        score = silhouette(vectors, labels, seed)
        if score > best_score:
            best, best_score = k, score
    deviations = TO_STAY if settled else TO_APPEAR
    return best if best > 1 and best_score > chance(divide, vectors, best, seed, deviations) else 1


def distinct(vectors: Vectors) -> int:
    """How many different vectors there are, at least; those that differ by rounding are one."""
    return len(np.unique(vectors[:SAMPLE].round(9) if len(vectors) > MANY else vectors.round(9), axis=0))


def _with(divide: Divide) -> Group:
    def group(vectors: Vectors, k: int | None, *, most: int, min_size: int, seed: int, settled: bool) -> Labels:
        different = distinct(vectors)
        if k is None:
            k = choose_k(divide, vectors, seed, most=min(most, different), min_size=min_size, settled=settled)
        k = min(k, different)
        return divide(vectors, k, seed) if k > 1 else np.zeros(len(vectors), dtype=np.int64)

    return group


def hdbscan(vectors: Vectors, k: int | None, *, most: int, min_size: int, seed: int, settled: bool) -> Labels:  # noqa: ARG001
    """HDBSCAN (Campello et al. 2013), which finds its own number: of regions where mutual reachability is short, the most persistent.

    They have at least `min_size` (2) clients; those in none join the nearest mean.
    """
    from sklearn.cluster import HDBSCAN

    least = max(2, min_size)
    if len(vectors) < least:
        return np.zeros(len(vectors), dtype=np.int64)
    found: Labels = HDBSCAN(min_cluster_size=least, copy=True).fit_predict(vectors).astype(np.int64)
    dense = sorted({int(label) for label in found} - {-1})
    if not dense:
        return np.zeros(len(vectors), dtype=np.int64)
    means = np.stack([vectors[found == label].mean(axis=0) for label in dense])
    near = ((vectors[:, None, :] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
    out: Labels = np.where(found == -1, np.array(dense)[near], found)
    return out


def alone(vectors: Vectors, k: int | None, *, most: int, min_size: int, seed: int, settled: bool) -> Labels:  # noqa: ARG001
    """Everybody is a cluster: local training only."""
    return np.arange(len(vectors), dtype=np.int64)


CLUSTERINGS: Mapping[str, Group] = {
    "agglomerative": _with(by_average_linkage),
    "alone": alone,
    "hdbscan": hdbscan,
    "k-means": _with(in_k_means),
}
BY_LOSS = "ifca"
"""Clients choose their cluster themselves, by the loss of its adapter (IFCA, arXiv 2006.04088): nothing is grouped by vectors."""
