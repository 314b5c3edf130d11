"""LoRA-FAIR: the mean of A stays, B is corrected so that the product comes near the exact mean (arXiv 2411.14961)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from fedcore.adapters import Adapter, Layer
from fedcore.aggregation.rule import Aggregated, Rule, nothing_discarded
from fedcore.aggregation.sums import exact_and_means

RIDGE = 0.01
"""λ as a share of the mean squared norm of Ā's rows."""


def combine(
    adapters: Iterable[Adapter],
    weights: Sequence[float],
    frozen: Adapter | None,
    *,
    rank: int,  # noqa: ARG001 the clients' own
    energy: float,  # noqa: ARG001
) -> Aggregated:
    """`B' = B̄ + (D*/s − B̄Ā) Āᵀ (ĀĀᵀ + λI)⁻¹`: of all updates whose rows lie in the span of Ā, nearly (λ) the nearest to D*.

    D*Āᵀ is taken factor by factor: no dense matrix.

    Raises:
        AdapterRefused: the ranks or scales differ.
    """
    out: dict[str, Layer] = {}
    for name, whole, mean in exact_and_means(adapters, weights, frozen, "lora_fair"):
        means = mean.layer()
        gram = means.a @ means.a.T
        projected = whole.b @ (whole.a @ means.a.T) / means.scale
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        correction = torch.linalg.solve(gram + ridge, (projected - means.b @ gram).T).T
        out[name] = replace(means, b=means.b + correction)
    return nothing_discarded(out)


LORA_FAIR = Rule(combine, split="head")
