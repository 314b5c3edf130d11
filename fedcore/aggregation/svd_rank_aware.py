"""raFLoRA (arXiv 2602.13486): components of the update are averaged over the clients whose rank reaches them only."""

from collections.abc import Iterable, Sequence

from fedcore.adapters import Adapter, Layer, concatenated, truncated
from fedcore.aggregation.rule import Aggregated, Rule
from fedcore.aggregation.sums import ProductSum, each


def combine(
    adapters: Iterable[Adapter],
    weights: Sequence[float],
    frozen: Adapter | None,  # noqa: ARG001 there are no tails
    *,
    rank: int,
    energy: float,
) -> Aggregated:
    """With every client's update in the order of its singular values, `Δ_k = Σ_h σ_kh u_kh v_khᵀ`, average component by component.

    `D_ra = Σ_h Σ_{k: r_k ≥ h} p_k / (Σ_{j: r_j ≥ h} p_j) σ_kh u_kh v_khᵀ`, then cut as `svd` does. Another target than D*:
    equal to it for equal ranks; with mixed ranks, what only large clients can carry is not watered down by small ones that
    could not have learnt it (rank partitions of raFLoRA, on a common factorisation, without which a rank's index means nothing).
    """
    components: dict[str, list[ProductSum]] = {}
    reaching: dict[str, list[float]] = {}
    for adapter, weight in each(adapters, weights):
        for name, layer in adapter.items():
            sums, of = components.setdefault(name, []), reaching.setdefault(name, [])
            canonical = truncated(layer, layer.rank).layer
            for h in range(layer.rank):
                if h == len(sums):
                    sums.append(ProductSum())
                    of.append(0.0)
                sums[h].add(Layer(canonical.a[h : h + 1], canonical.b[:, h : h + 1]), weight)
                of[h] += weight
    made = {
        name: truncated(concatenated([s.layer() for s in sums], [1 / w for w in reaching[name]]), rank, energy=energy)
        for name, sums in sorted(components.items())
    }
    return Aggregated({name: m.layer for name, m in made.items()}, {name: m.discarded for name, m in made.items()})


SVD_RANK_AWARE = Rule(combine, split="cut", mixed_ranks=True)
