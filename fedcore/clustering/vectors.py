"""What clients are grouped by: unit vectors of their wishes, of what their adapters learnt, or of both."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.adapters import Adapter, layer_names

Vectors = NDArray[np.float64]
View = Literal["requirements", "adapters", "both"]
BLOCK = 2048
"""Rows of stacked factors whose products are held at once."""


def unit(vectors: Vectors) -> Vectors:
    """Rows scaled to length one; zero rows stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    out: Vectors = vectors / np.where(length > 0, length, 1)
    return out


def gram(adapters: Sequence[Adapter]) -> Vectors:
    """`G_ij = ⟨Δ_i, Δ_j⟩_F` summed over layers, (n, n) float64, without a dense update; ranks may differ.

    With all A stacked to (ρ, in) and all B to (out, ρ), ρ = Σ r_k, `⟨Δ_i, Δ_j⟩` is the sum of block (i, j) of `(BᵀB) ∘ (AAᵀ)`,
    taken in stripes. It does not see how an update is factored: `(B M)(M⁻¹ A)` gives the same.
    """
    total = np.zeros((len(adapters), len(adapters)))
    for name in layer_names(adapters):
        layers = [adapter[name].folded() for adapter in adapters]
        a, b = torch.cat([layer.a for layer in layers]), torch.cat([layer.b.T for layer in layers])
        owner = torch.repeat_interleave(torch.arange(len(layers)), torch.tensor([layer.rank for layer in layers]))
        for rows in torch.arange(len(a)).split(BLOCK):
            products = (b[rows] @ b.T) * (a[rows] @ a.T)
            by_column = torch.zeros(len(rows), len(layers), dtype=torch.float64).index_add_(1, owner, products)
            total += torch.zeros(len(layers), len(layers), dtype=torch.float64).index_add_(0, owner[rows], by_column).numpy()
    return total


def embedded(products: Vectors) -> Vectors:
    """Vectors (n, dims) of which the cosines of a Gram matrix are the inner products: its principal square root (kernel PCA, not centred).

    A client whose update is zero gets a zero vector. Signs are fixed, so that equal matrices give equal vectors.
    """
    length = np.sqrt(np.clip(np.diag(products), 0, None))
    cosines = products / np.where(length > 0, length, 1)[:, None] / np.where(length > 0, length, 1)[None, :]
    values, vectors = np.linalg.eigh((cosines + cosines.T) / 2)
    keep = values > 1e-9 * max(values[-1], 0)
    vectors = vectors[:, keep] * np.where(vectors[np.abs(vectors[:, keep]).argmax(axis=0), np.flatnonzero(keep)] < 0, -1, 1)
    out: Vectors = vectors * np.sqrt(values[keep])
    return out


def seen(view: View, requirements: Mapping[str, Vectors], products: Vectors | None) -> Vectors:
    """One row per client in id order; `products` is the Gram matrix of their updates, in the same order.

    `both` sets the two unit vectors side by side, so that its cosine is the mean of the two cosines.
    """
    wishes = unit(np.stack([np.asarray(requirements[c], dtype=np.float64) for c in sorted(requirements)]))
    if view == "requirements" or products is None:
        return wishes
    learnt = unit(embedded(products))
    return learnt if view == "adapters" else np.hstack([wishes, learnt]) / 2**0.5
