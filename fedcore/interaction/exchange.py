"""Exchange between cluster adapters: each keeps a share of its own and takes the rest from the others."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Interact(Protocol):
    """How much of every cluster's adapter goes into each cluster's: rows (into) sum to one."""

    def __call__(self, centroids: Tensor, *, own: float, temperature: float) -> Tensor:
        """`centroids` (clusters, dims), unit length; returns (clusters, clusters) float64."""


def similarity(centroids: Tensor, *, own: float, temperature: float) -> Tensor:
    """Own share λ on the diagonal; the rest by softmax of the centroids' cosines at `temperature`, without oneself."""
    unit = torch.nn.functional.normalize(centroids.double(), dim=1)
    n = len(unit)
    if n == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    logits = (unit @ unit.T) / temperature
    logits.fill_diagonal_(-torch.inf)
    weights = (1 - own) * torch.softmax(logits, dim=1)
    weights.fill_diagonal_(own)
    return weights


def none(centroids: Tensor, *, own: float, temperature: float) -> Tensor:  # noqa: ARG001
    """No exchange: the identity."""
    return torch.eye(len(centroids), dtype=torch.float64)


INTERACTIONS: Mapping[str, Interact] = {"similarity": similarity, "none": none}
