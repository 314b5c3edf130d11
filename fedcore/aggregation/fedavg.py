"""FedIT: the mean of the A factors and the mean of the B factors, apart (arXiv 2305.05644)."""

from collections.abc import Sequence

import torch

from fedcore.adapters import Adapter, Layer, layer_names
from fedcore.aggregation.rule import Aggregated
from fedcore.errors import AdapterRefused


def fedavg(adapters: Sequence[Adapter], weights: Sequence[float], *, rank: int, energy: float) -> Aggregated:  # noqa: ARG001
    """`Ā = Σ p_k A_k`, `B̄ = Σ p_k s_k B_k`; not D*: it misses `Σ p_k (s_k B_k − B̄)(A_k − Ā)`.

    Raises:
        AdapterRefused: the ranks differ; means of factors need equal ranks (`svd` takes any).
    """
    made: dict[str, Layer] = {}
    for name in layer_names(adapters):
        layers = [adapter[name].folded() for adapter in adapters]
        if len({layer.rank for layer in layers}) > 1:
            ranks = sorted({layer.rank for layer in layers})
            raise AdapterRefused(f"aggregation 'fedavg' needs equal ranks, got {ranks}; use 'svd' for mixed ranks")
        a = sum((layer.a * w for layer, w in zip(layers, weights, strict=True)), torch.zeros_like(layers[0].a))
        b = sum((layer.b * w for layer, w in zip(layers, weights, strict=True)), torch.zeros_like(layers[0].b))
        made[name] = Layer(a, b)
    return Aggregated(made, dict.fromkeys(made, 0.0))
