"""What clients are grouped by: unit vectors of their wishes, of what their adapters learnt, or of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.adapters import Adapter, layer_names

Vectors = NDArray[np.float64]
View = Literal["requirements", "adapters", "both"]
MANY = 20_000
"""Beyond so many clients wishes are held in float32, k-means looks at small batches, and k is chosen on a sample."""
AT_ONCE = 64
"""Clients whose adapters are in memory at once, twice, when all are compared with all."""
MOST_ALIKE = 2000
"""So many clients at most are compared by what they learnt: work and what is remembered grow with the square of their number."""
BLOCK = 2048
"""Rows of stacked factors whose products are held at once."""
DIMS = 8
"""Components of what adapters learnt that count; with four, styles that are near each other fall together, with twelve noise wins."""
WISHES, SURE_AS = 0.2, 5
"""Share of the wishes where both count, at least; of n clients `SURE_AS / n`: few clients' adapters tell little but noise."""


def unit(vectors: Vectors) -> Vectors:
    """Rows scaled to length one; zero rows stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    out: Vectors = vectors / np.where(length > 0, length, 1)
    return out


def gram(adapters: Sequence[Adapter]) -> Vectors:
    """`G_ij = ⟨Δ_i, Δ_j⟩_F` summed over layers, (n, n) float64, without a dense update; ranks may differ.

    With all A stacked to (ρ, in) and all B to (out, ρ), ρ = Σ r_k, `⟨Δ_i, Δ_j⟩` is the sum of block (i, j) of `(BᵀB) ∘ (AAᵀ)`,
    taken in stripes. It does not see how an update is factored: `(B M)(M⁻¹ A)` gives the same. Adapters are asked for a block at a
    time, so that a sequence which loads them need not hold them all.
    """
    n = len(adapters)
    total, blocks = np.zeros((n, n)), [range(i, min(i + AT_ONCE, n)) for i in range(0, n, AT_ONCE)]
    for i, rows in enumerate(blocks):
        mine = [adapters[row] for row in rows]
        total[np.ix_(rows, rows)] = _products(mine, mine)
        for columns in blocks[i + 1 :]:
            found = _products(mine, [adapters[column] for column in columns])
            total[np.ix_(rows, columns)], total[np.ix_(columns, rows)] = found, found.T
    return total


def _products(mine: Sequence[Adapter], theirs: Sequence[Adapter]) -> Vectors:
    """A block of the Gram matrix."""
    total = np.zeros((len(mine), len(theirs)))
    for name in layer_names([*mine, *theirs]):
        a, b, of_rows = _stacked(mine, name)
        c, d, of_columns = _stacked(theirs, name)
        for rows in torch.arange(len(a)).split(BLOCK):
            products = (b[rows] @ d.T) * (a[rows] @ c.T)
            by_column = torch.zeros(len(rows), len(theirs), dtype=torch.float64).index_add_(1, of_columns, products)
            total += torch.zeros(len(mine), len(theirs), dtype=torch.float64).index_add_(0, of_rows[rows], by_column).numpy()
    return total


def _stacked(adapters: Sequence[Adapter], name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All A of a layer (ρ, in), all Bᵀ (ρ, out), and whose each row is (ρ,)."""
    layers = [adapter[name].folded() for adapter in adapters]
    owner = torch.repeat_interleave(torch.arange(len(layers)), torch.tensor([layer.rank for layer in layers]))
    return torch.cat([layer.a for layer in layers]), torch.cat([layer.b.T for layer in layers]), owner


def cosines(products: Vectors) -> Vectors:
    """A Gram matrix scaled to ones on the diagonal; who has learnt nothing is like nobody."""
    length = np.sqrt(np.clip(np.diag(products), 0, None))
    safe = np.where(length > 0, length, 1)
    out: Vectors = products / safe[:, None] / safe[None, :]
    return out


@dataclass(frozen=True)
class Alike:
    """How alike clients have been over the rounds: sums of cosines (n, n) and in how many rounds each pair was seen, in client order."""

    clients: tuple[str, ...]
    sums: Vectors
    counts: Vectors

    def mean(self, clients: Sequence[str]) -> Vectors:
        """Mean cosine of each pair of these clients, who must all be known.

        A pair never seen together is as alike as pairs are on average: 0 would set clients apart by when they took part.
        """
        rows = [self.clients.index(c) for c in clients]
        sums, counts = self.sums[np.ix_(rows, rows)], self.counts[np.ix_(rows, rows)]
        out: Vectors = sums / np.maximum(counts, 1)
        pairs = (counts > 0) & ~np.eye(len(rows), dtype=bool)
        return np.where(counts > 0, out, out[pairs].mean() if pairs.any() else 0.0)


def remembered(clients: Sequence[str], now: Vectors, before: Alike | None) -> Alike:
    """This round's cosines added to those of earlier rounds: what is noise in one round's few steps averages out."""
    known = sorted({*clients, *(before.clients if before else ())})
    sums, counts = np.zeros((len(known), len(known))), np.zeros((len(known), len(known)))
    parts = [(clients, now, np.ones_like(now)), *([(before.clients, before.sums, before.counts)] if before else [])]
    for who, values, times in parts:
        rows = [known.index(c) for c in who]
        sums[np.ix_(rows, rows)] += values
        counts[np.ix_(rows, rows)] += times
    return Alike(tuple(known), sums, counts)


def embedded(alike: Vectors) -> Vectors:
    """Unit vectors (n, DIMS) from cosines K (n, n): the leading components of kernel PCA (Schölkopf et al. 1998).

    `H K H = U Λ Uᵀ` with `H = I − 11ᵀ/n`; row i is that of `U Λ^½`, brought to length one.

    Centred, since what everybody learns says nothing of how they differ. Signs are fixed, so that equal matrices give equal vectors.
    """
    rows = alike.mean(axis=0)
    centred = alike - rows[:, None] - rows[None, :] + rows.mean()
    values, vectors = np.linalg.eigh((centred + centred.T) / 2)
    values, vectors = values[::-1][:DIMS], vectors[:, ::-1][:, :DIMS]
    keep = values > 1e-9 * max(values[0], 1e-300)
    if not keep.any():
        return np.zeros((len(alike), 1))
    values, vectors = values[keep], vectors[:, keep]
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))] < 0, -1, 1)
    return unit(vectors * np.sqrt(values))


def seen(view: View, requirements: Mapping[str, Vectors], alike: Vectors | None) -> Vectors:
    """One row per client in id order; `alike` are the cosines of what their adapters learnt, in the same order.

    `both` sets the two unit vectors side by side, weighted so that its cosine is the weighted mean of the two.
    """
    precision = np.float32 if len(requirements) > MANY else np.float64  # a million wishes would take a gigabyte more
    wishes = unit(np.stack([np.asarray(requirements[c], dtype=precision) for c in sorted(requirements)]))
    if view == "requirements" or alike is None:
        return wishes
    learnt = embedded(alike)
    share = min(1.0, max(WISHES, SURE_AS / len(wishes)))
    return learnt if view == "adapters" else np.hstack([share**0.5 * wishes, (1 - share) ** 0.5 * learnt])
