"""HetLoRA: factors padded with zeros to the largest rank, clients weighted by the norm of their update (arXiv 2401.06432)."""

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
    """`Ā = Σ q_k pad(A_k)`, `B̄ = Σ q_k pad(s_k B_k)` with `q_k = ‖Δ_k‖_F / Σ ‖Δ_j‖_F` over all layers; clients take the first r_k rows.

    Uniform where nothing was trained.
    """
    sums: dict[str, Padded] = {}
    total, clients = 0.0, 0
    for adapter, _ in each(adapters, weights):
        norm = sum(max(inner(layer, layer), 0.0) for layer in adapter.values()) ** 0.5
        total, clients = total + norm, clients + 1
        for name, layer in adapter.items():
            sums.setdefault(name, Padded()).add(layer, norm)
    return nothing_discarded({name: of.layer(total, clients) for name, of in sorted(sums.items())})


class Padded:
    """Sums of one layer's factors, weighted and plain, padded to the largest rank so far."""

    def __init__(self) -> None:
        """Empty sums."""
        self._weighted: Layer | None = None
        self._plain: Layer | None = None

    def add(self, layer: Layer, weight: float) -> None:
        """Add one."""
        exact = layer.folded()
        self._weighted = _padded_sum(self._weighted, Layer(exact.a * weight, exact.b * weight))
        self._plain = _padded_sum(self._plain, exact)

    def layer(self, total: float, clients: int) -> Layer:
        """The weighted means; the plain ones where all weights were zero."""
        sums, by = (self._weighted, total) if total > 0 else (self._plain, clients)
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
