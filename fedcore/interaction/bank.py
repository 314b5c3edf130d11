"""The global model: base + every cluster's adapter + a router from an encoded prompt to weights, which yields hybrid styles."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcore.adapters import Adapter


@dataclass(frozen=True)
class Bank:
    """Cluster adapters by id, their unit centroids (clusters, dims) in id order, and the router's temperature."""

    adapters: Mapping[int, Adapter]
    centroids: Tensor
    temperature: float


def route(bank: Bank, requirement: Tensor) -> dict[int, float]:
    """softmax(cos(requirement, centroids) / T) for one encoded wish (dims,): weights by cluster id, summing to one.

    A gate over experts (Jacobs et al. 1991) whose keys are the centroids, so that nothing need be trained.
    """
    unit = torch.nn.functional.normalize(requirement.double(), dim=0)
    cosines = torch.nn.functional.normalize(bank.centroids.double(), dim=1) @ unit
    weights = torch.softmax(cosines / bank.temperature, dim=0)
    return {cluster: float(w) for cluster, w in zip(sorted(bank.adapters), weights, strict=True)}
