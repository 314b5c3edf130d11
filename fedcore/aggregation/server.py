"""Server optimisers: the mean of a round's updates is a pseudo-gradient for FedAvgM, FedAdam or FedYogi (arXiv 1909.06335, 2003.00295)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from fedcore.adapters import Adapter, Factor, Layer
from fedcore.aggregation.rule import Trains

Optimiser = Literal["none", "momentum", "adam", "yogi"]
FACTORS: tuple[Factor, Factor] = ("a", "b")
State = dict[str, Tensor]
"""First and second moments: `<layer>.<a|b>.m` and `.v`."""


@dataclass(frozen=True)
class Step:
    """`lr`: server learning rate; `beta1`, `beta2`: decay of the moments; `tau`: adaptivity, the floor of the denominator."""

    method: Optimiser
    lr: float
    beta1: float
    beta2: float
    tau: float


def stepped(
    before: Adapter, mean: Adapter, state: Mapping[str, Tensor], step: Step, trains: Trains = "ab"
) -> tuple[dict[str, Layer], State]:
    """From what clients began with (`before`, weighted as they are) towards the mean of what they made of it, factor by factor.

    With `g = mean − before`, `m ← β₁ m + g` (momentum) or `β₁ m + (1 − β₁) g`; adam: `v ← β₂ v + (1 − β₂) g²`; yogi:
    `v ← v − (1 − β₂) g² sign(v − g²)`; `x = before + lr · m` or `before + lr · m / (√v + τ)`. Moments begin at 0 and τ².
    A factor that no client moved in this round (`trains`) stays as it is, and so do its moments. Returns the adapter and the
    moments for the next round. The result keeps the scale of `mean`.
    """
    out: dict[str, Layer] = {}
    moments: State = dict(state)
    for name, target in sorted(mean.items()):
        made = target
        for factor in (f for f in FACTORS if f in trains):
            x, g = getattr(before[name], factor).double(), getattr(target, factor).double() - getattr(before[name], factor).double()
            key = f"{name}.{factor}"
            m = state[f"{key}.m"].double() if f"{key}.m" in state else torch.zeros_like(g)
            m = step.beta1 * m + (g if step.method == "momentum" else (1 - step.beta1) * g)
            moments[f"{key}.m"] = m
            if step.method == "momentum":
                made = replace(made, **{factor: x + step.lr * m})
                continue
            v = state[f"{key}.v"].double() if f"{key}.v" in state else torch.full_like(g, step.tau**2)
            square = g.square()
            v = step.beta2 * v + (1 - step.beta2) * square if step.method == "adam" else v - (1 - step.beta2) * square * (v - square).sign()
            moments[f"{key}.v"] = v
            made = replace(made, **{factor: x + step.lr * m / (v.sqrt() + step.tau)})
        out[name] = made
    return out, moments
