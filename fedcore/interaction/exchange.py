"""Exchange between cluster adapters: how much of every cluster's adapter goes into each, layer by layer.

Cluster i's new update is `Σ_j W_ij Δ_j` with its weights from one of the functions below; c_i are centroids, λ is the own share,
T the temperature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fedcore.adapters import Adapter, inner, layer_names

Weights = Mapping[str, Tensor]
"""Layer → (clusters, clusters) float64: row i says what cluster i is made of."""


class Weigh(Protocol):
    """Weights of an exchange."""

    def __call__(self, centroids: Tensor, adapters: Sequence[Adapter], *, own: float, temperature: float) -> Weights:
        """`centroids` (clusters, dims), unit length; `adapters` in the same order; `own` is the share on the diagonal."""


@dataclass(frozen=True)
class Interaction:
    """`beside`: what comes from the others stands frozen beside the own adapter, instead of being mixed into it."""

    weigh: Weigh
    beside: bool = False


def spread(logits: Tensor, own: float) -> Tensor:
    """Own share on the diagonal; the rest by softmax of each row's logits (clusters, clusters), without oneself."""
    n = len(logits)
    if n == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    others = logits.double().clone()
    others.fill_diagonal_(-torch.inf)
    weights = (1 - own) * torch.softmax(others, dim=1)
    weights.fill_diagonal_(own)
    return weights


def similarity(centroids: Tensor, adapters: Sequence[Adapter], *, own: float, temperature: float) -> Weights:
    """`W_ii = λ`, `W_ij = (1 − λ) softmax_{j≠i}(cos(c_i, c_j) / T)`: clusters that wish alike learn from each other.

    That clusters learn from each other is arXiv 2508.04745's, which leaves the weights open; the softmax over cosines is our choice.
    """
    unit = torch.nn.functional.normalize(centroids.double(), dim=1)
    weights = spread(unit @ unit.T / temperature, own)
    return dict.fromkeys(layer_names(adapters), weights)


def group_of(layer: str) -> str:
    """The block of the model that a layer belongs to, such as `down_blocks.1`."""
    return ".".join(layer.split(".")[:2])


def attention(centroids: Tensor, adapters: Sequence[Adapter], *, own: float, temperature: float) -> Weights:  # noqa: ARG001
    """Per block of layers g: `W_ii = λ`, `W_ij = (1 − λ) softmax_{j≠i}(⟨Δ_i, Δ_j⟩_g / (‖Δ_i‖_g ‖Δ_j‖_g) / T)`.

    Adapters attend to adapters, as in FedAMP (arXiv 2007.03797), here by blocks: two clusters may share how they draw outlines
    and differ in how they colour.
    """
    names = layer_names(adapters)
    out: dict[str, Tensor] = {}
    for group in sorted({group_of(name) for name in names}):
        mine = [name for name in names if group_of(name) == group]
        gram = torch.tensor([[sum(inner(x[n], y[n]) for n in mine) for y in adapters] for x in adapters], dtype=torch.float64)
        norm = gram.diagonal().clamp(min=0).sqrt()
        cosines = gram / (norm[:, None] * norm[None, :]).clamp(min=1e-300)
        out |= dict.fromkeys(mine, spread(cosines / temperature, own))
    return out


def none(centroids: Tensor, adapters: Sequence[Adapter], *, own: float, temperature: float) -> Weights:  # noqa: ARG001
    """No exchange: `W = I`."""
    return dict.fromkeys(layer_names(adapters), torch.eye(len(adapters), dtype=torch.float64))


def rest_of_the_world(centroids: Tensor, adapters: Sequence[Adapter], *, own: float, temperature: float) -> Weights:  # noqa: ARG001
    """Leave-one-out over n clusters: `W_ii = 1`, `W_ij = (1 − λ) / (n − 1)`; the sum of the others stands beside the own adapter.

    Shared and rest-of-the-world adapters beside each other are FedALT's (arXiv 2503.11880), where a gate of the client's mixes them.
    """
    n = len(adapters)
    weights = torch.full((n, n), (1 - own) / max(1, n - 1), dtype=torch.float64)
    weights.fill_diagonal_(1.0)
    return dict.fromkeys(layer_names(adapters), weights)


INTERACTIONS: Mapping[str, Interaction] = {
    "attention": Interaction(attention),
    "none": Interaction(none),
    "rest_of_the_world": Interaction(rest_of_the_world, beside=True),
    "similarity": Interaction(similarity),
}
