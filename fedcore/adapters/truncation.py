"""The best approximation of an update at a lower rank, without the dense matrix."""

from dataclasses import dataclass

import torch

from fedcore.adapters.layer import Adapter, Layer


@dataclass(frozen=True)
class Truncated:
    """A low-rank approximation and the share of ‖Δ‖²_F it gives up."""

    layer: Layer
    discarded: float


def truncated(layer: Layer, rank: int, *, energy: float = 1.0) -> Truncated:
    """The best approximation of Δ at `rank`, or less where less keeps the share `energy` of ‖Δ‖²_F (Eckart–Young).

    By QR of both factors and an SVD of the small core, never forming Δ unless the factors are as large as it is:
    `B = Q1 R1`, `Aᵀ = Q2 R2`, `R1 R2ᵀ = U Σ Vᵀ`, `Δ = (Q1 U) Σ (Q2 V)ᵀ`. The factors come out balanced (both carry √Σ),
    with signs fixed so that the largest entry of each column of B is positive. Float64 inside; keeps at least rank 1.
    """
    exact = layer.folded()
    out, inputs = exact.b.shape[0], exact.a.shape[1]
    if exact.rank >= min(out, inputs):
        u, s, vt = torch.linalg.svd(exact.b @ exact.a, full_matrices=False)
    else:
        q1, r1 = torch.linalg.qr(exact.b)
        q2, r2 = torch.linalg.qr(exact.a.T)
        core_u, s, core_vt = torch.linalg.svd(r1 @ r2.T)
        u, vt = q1 @ core_u, core_vt @ q2.T
    total = float(s.square().sum())
    keep = min(rank, len(s))
    if total > 0 and energy < 1:
        retained = s.square().cumsum(0) / total
        keep = min(keep, int((retained < energy - 1e-12).sum()) + 1)
    peak = u[u.abs().argmax(dim=0), torch.arange(u.shape[1])]
    sign = torch.where(peak < 0, -1.0, 1.0).to(u)
    root = s[:keep].sqrt()
    made = Layer((vt[:keep] * sign[:keep, None]) * root[:, None], (u[:, :keep] * sign[:keep]) * root)
    return Truncated(made, float(s[keep:].square().sum()) / total if total > 0 else 0.0)


def cut(adapter: Adapter, rank: int) -> tuple[dict[str, Layer], float]:
    """Every layer truncated to `rank`, and the share of ‖Δ‖²_F that this discarded, over all layers."""
    lost = total = 0.0
    out: dict[str, Layer] = {}
    for name, layer in sorted(adapter.items()):
        energy = max(layer.energy(), 0.0)
        made = truncated(layer, rank)
        total, lost = total + energy, lost + made.discarded * energy
        out[name] = made.layer
    return out, lost / total if total > 0 else 0.0
