"""The global model: base + every cluster's adapter + a router from an encoded prompt to weights, which yields hybrid styles."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcore.adapters import Adapter, Layer, concatenated, layer_names


@dataclass(frozen=True)
class Bank:
    """Cluster adapters by id, their unit centroids (clusters, dims) in id order, and the router's temperature."""

    adapters: Mapping[int, Adapter]
    centroids: Tensor
    temperature: float


def route(bank: Bank, requirement: Tensor) -> dict[int, float]:
    """softmax(cos(requirement, centroids) / T) for one encoded wish (dims,): weights by cluster id, summing to one."""
    unit = torch.nn.functional.normalize(requirement.double(), dim=0)
    cosines = torch.nn.functional.normalize(bank.centroids.double(), dim=1) @ unit
    weights = torch.softmax(cosines / bank.temperature, dim=0)
    return {cluster: float(w) for cluster, w in zip(sorted(bank.adapters), weights, strict=True)}


def mixed(adapters: Mapping[int, Adapter], weights: Mapping[int, float]) -> dict[str, Layer]:
    """Σ w_c Δ_c as one adapter: exact, by concatenated factors, at rank Σ r_c."""
    ids = sorted(c for c, w in weights.items() if w != 0)
    out: dict[str, Layer] = {}
    for name in layer_names(adapters[c] for c in ids):
        out[name] = concatenated([adapters[c][name] for c in ids], [weights[c] for c in ids])
    return out
