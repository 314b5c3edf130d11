"""HetLoRA: factors padded with zeros to the largest rank, clients weighted by the norm of their update too (arXiv 2401.06432)."""

from collections.abc import Iterable, Sequence

from torch.nn.functional import pad

from fedcore.adapters import Adapter, Layer, inner
from fedcore.aggregation.rule import Aggregated, Rule, nothing_discarded
from fedcore.aggregation.sums import each
from fedcore.errors import AdapterRefused


def combine(
    adapters: Iterable[Adapter],
    weights: Sequence[float],
    frozen: Adapter | None,  # noqa: ARG001 there are no tails
    *,
    rank: int,  # noqa: ARG001 that of the largest client
    energy: float,  # noqa: ARG001
) -> Aggregated:
    """`Ā = Σ q_k pad(A_k)`, `B̄ = Σ q_k pad(s_k B_k)`, `q_k = p_k ‖Δ_k‖_F / Σ p_j ‖Δ_j‖_F` over all layers; clients take the first r_k rows.

    With equal weights `p_k` that is the paper's rule; `q_k = p_k` where nothing was trained.
    """
    sums: dict[str, Padded] = {}
    total = 0.0
    for adapter, weight in each(adapters, weights):
        norm = sum(max(inner(layer, layer), 0.0) for layer in adapter.values()) ** 0.5
        total += weight * norm
        for name, layer in adapter.items():
            sums.setdefault(name, Padded()).add(layer, weight, norm)
    return nothing_discarded({name: of.layer(total) for name, of in sorted(sums.items())})


class Padded:
    """Sums of one layer's factors, with and without the norms, padded to the largest rank so far."""

    def __init__(self) -> None:
        """Empty sums."""
        self._weighted: Layer | None = None
        self._plain: Layer | None = None

    def add(self, layer: Layer, weight: float, norm: float) -> None:
        """Add one."""
        exact = layer.folded()
        mine = Layer(exact.a * weight, exact.b * weight)
        self._plain = _padded_sum(self._plain, mine)
        self._weighted = _padded_sum(self._weighted, Layer(mine.a * norm, mine.b * norm))

    def layer(self, total: float) -> Layer:
        """The means weighted by the norms, which add up to `total`; the plain ones where that is zero."""
        sums, by = (self._weighted, total) if total > 0 else (self._plain, 1.0)
        if sums is None:
            raise AdapterRefused("a mean of no adapters")
        return Layer(sums.a / by, sums.b / by)


def _padded_sum(x: Layer | None, y: Layer) -> Layer:
    if x is None:
        return y
    most = max(x.rank, y.rank)
    padded = [Layer(pad(z.a, (0, 0, 0, most - z.rank)), pad(z.b, (0, most - z.rank))) for z in (x, y)]
    return Layer(padded[0].a + padded[1].a, padded[0].b + padded[1].b)


HETLORA = Rule(combine, split="head", mixed_ranks=True)
