"""Grouping very many clients by their wishes: how long it takes with the default method, and how much memory."""

import time
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import adjusted_rand_score

from fedcore.clustering import cluster
from fedcore.config import ClusteringConfig
from flows.benchmarks.crowd import peak_memory

DIMS, GROUPS = 64, 6


@dataclass(frozen=True)
class Grouping:
    """`peak` is the most memory this process ever had, in bytes, of which `before` was there before anything was grouped."""

    clients: int
    seconds: float
    before: int
    peak: int
    clusters: int
    ari: float


def grouping(clients: int) -> Grouping:
    """Group `clients` wishes of 64 numbers in six overlapping groups of equal chance, by the default method and automatic k."""
    draw = np.random.Generator(np.random.PCG64(0))
    centres, group = draw.normal(size=(GROUPS, DIMS)).astype(np.float32), draw.integers(GROUPS, size=clients)
    wishes = draw.standard_normal((clients, DIMS), dtype=np.float32)
    wishes += centres[group]
    by_name = {f"c{i:07}": wish for i, wish in enumerate(wishes)}
    want, before, began = ClusteringConfig(), peak_memory(), time.monotonic()
    found = cluster(by_name, k=None, most=want.most, min_size=want.min_size, seed=0, method=want.method)
    seconds = time.monotonic() - began
    label = np.empty(clients, dtype=np.int64)
    for i, members in found.members.items():
        label[[int(c[1:]) for c in members]] = i
    return Grouping(clients, seconds, before, peak_memory(), len(found.members), float(adjusted_rand_score(group, label)))
