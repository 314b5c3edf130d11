"""LoRA adapters as values: per adapted layer two factors and a scale, `Δ = scale · B A`; checks, arithmetic and truncation.

A convolution's factors, A (r, in, kh, kw) and B (out, r, 1, 1), are kept flattened as (r, in·kh·kw) and (out, r): the
same algebra holds for both kinds of layer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedcore.errors import AdapterRefused
from fedcore.seeds import generator


@dataclass(frozen=True)
class Layer:
    """One layer's update `Δ = scale · B A`: `a` (rank, in), `b` (out, rank); for LoRA `scale = alpha / rank`."""

    a: Tensor
    b: Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """Number of rows of A."""
        return self.a.shape[0]

    def folded(self) -> "Layer":
        """The same update in float64 with the scale folded into B."""
        return Layer(self.a.double(), self.b.double() * self.scale)

    def delta(self) -> Tensor:
        """The dense update (out, in) in float64, as large as the layer itself."""
        return (self.b.double() @ self.a.double()) * self.scale

    def energy(self) -> float:
        """‖Δ‖²_F without the dense matrix: tr((BᵀB)(AAᵀ))·scale²."""
        return inner(self, self)


Adapter = Mapping[str, Layer]
"""Layers by the name of the module they adapt."""


def inner(x: Layer, y: Layer) -> float:
    """⟨Δ_x, Δ_y⟩_F in float64 without the dense matrices: s_x s_y tr((B_xᵀB_y)(A_y A_xᵀ)). Ranks may differ."""
    left = x.b.double().T @ y.b.double()
    right = y.a.double() @ x.a.double().T
    return float((left * right.T).sum()) * x.scale * y.scale


def concatenated(layers: Sequence[Layer], weights: Sequence[float]) -> Layer:
    """Σ w_k Δ_k exactly, at rank Σ r_k, in float64; the weight goes on one side only (FLoRA, arXiv 2409.05976)."""
    parts = [layer.folded() for layer in layers]
    return Layer(torch.cat([p.a for p in parts]), torch.cat([p.b * w for p, w in zip(parts, weights, strict=True)], dim=1))


@dataclass(frozen=True)
class Truncated:
    """A low-rank approximation and the share of ‖Δ‖²_F it gives up."""

    layer: Layer
    discarded: float


VANISHED = 1e-7
"""A row of A below this share of the whole is rounding noise."""


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


def single(layer: Layer) -> Layer:
    """The layer in float32, contiguous, as it is stored and sent."""
    return Layer(layer.a.float().contiguous(), layer.b.float().contiguous(), layer.scale)


def with_scale(layer: Layer, scale: float) -> Layer:
    """The same update expressed with another scale, the difference shared by both factors."""
    share = (abs(layer.scale / scale)) ** 0.5
    sign = -1.0 if layer.scale / scale < 0 else 1.0
    return Layer(layer.a * share, layer.b * (share * sign), scale)


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


def fresh_rows(rank: int, inputs: int, seed: int, name: str) -> Tensor:
    """Rows of A as LoRA begins with them, (rank, inputs): uniform in ±1/√inputs, as PEFT initialises."""
    rows: Tensor = (2 * torch.rand(rank, inputs, generator=generator(seed, "initial", rank, name)) - 1) / inputs**0.5
    return rows


def fitted(adapter: Adapter, rank: int, scale: float, *, seed: int) -> tuple[dict[str, Layer], float]:
    """The adapter brought to exactly `rank` and `scale`, as a client of that rank starts from it.

    Truncated where the rank is higher; where it is lower, or a component vanished, A gets fresh rows and B zeros: the same
    update, and the whole rank can be trained (zeros in both factors have no gradient). A layer of the right rank is only
    rescaled. Returns the adapter in float32 and the share of ‖Δ‖²_F that truncation discarded, over all layers.
    """
    if all(layer.rank == rank and layer.scale == scale for layer in adapter.values()):
        return dict(adapter), 0.0
    small, discarded = cut({name: layer for name, layer in adapter.items() if layer.rank > rank}, rank)
    out: dict[str, Layer] = {}
    for name, layer in sorted({**adapter, **small}.items()):
        share = with_scale(layer, scale)
        a, b = fresh_rows(rank, layer.a.shape[1], seed, name).double(), torch.zeros(layer.b.shape[0], rank, dtype=torch.float64)
        alive = share.a.double().norm(dim=1) > VANISHED * share.a.double().norm()
        a[: layer.rank][alive], b[:, : layer.rank][:, alive] = share.a.double()[alive], share.b.double()[:, alive]
        out[name] = single(Layer(a, b, scale))
    return out, discarded


def to_bytes(adapter: Adapter) -> bytes:
    """The adapter as one safetensors file: `<module>.lora_A`, `<module>.lora_B`, `<module>.scale`; equal adapters give equal bytes."""
    tensors: dict[str, Tensor] = {}
    for name, layer in sorted(adapter.items()):
        tensors[f"{name}.lora_A"] = layer.a.float().contiguous()
        tensors[f"{name}.lora_B"] = layer.b.float().contiguous()
        tensors[f"{name}.scale"] = torch.tensor(layer.scale, dtype=torch.float32)
    blob: bytes = save(tensors)
    return blob


def from_bytes(blob: bytes) -> dict[str, Layer]:
    """Read what `to_bytes` wrote.

    Raises:
        AdapterRefused: not safetensors, or a layer that is incomplete or of impossible shape.
    """
    try:
        tensors = load(blob)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that torch does not know
        raise AdapterRefused(f"not a safetensors file ({_shown(str(error))}); adapters are exchanged as safetensors only") from None
    names = sorted({key.rsplit(".", 1)[0] for key in tensors})
    out: dict[str, Layer] = {}
    for name in names:
        parts = [tensors.pop(f"{name}.{part}", None) for part in ("lora_A", "lora_B", "scale")]
        a, b, scale = parts
        if a is None or b is None or scale is None:
            missing = [p for p, value in zip(("lora_A", "lora_B", "scale"), parts, strict=True) if value is None]
            raise AdapterRefused(f"layer {_shown(name)} lacks {', '.join(missing)}")
        if scale.is_complex():
            raise AdapterRefused(f"layer {_shown(name)} has a complex scale")
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or scale.ndim != 0:
            raise AdapterRefused(f"layer {_shown(name)} has factors of shapes {tuple(a.shape)} and {tuple(b.shape)} that do not multiply")
        out[name] = Layer(a, b, float(scale))
    if tensors:
        raise AdapterRefused(f"holds an entry that is no part of an adapter: {_shown(min(tensors))}")
    return out


def _shown(name: str) -> str:
    """A name from a stranger's file, safe to print: printable ASCII, 80 characters at most."""
    return repr(re.sub(r"[^\x20-\x7e]", "?", name)[:80])


Shapes = Mapping[str, tuple[int, int]]
"""(out, in) of every layer that an adapter must cover."""

MAX_NORM = 1e4
"""A layer's ‖Δ‖_F above this is refused: no useful update of these models comes near it."""


def check(adapter: Adapter, shapes: Shapes, *, rank: int) -> None:
    """Refuse an adapter that is not exactly what a client of this federation may send.

    Checked: the set of layers, shapes, the rank, dtype float32, finite values and scale, and the update's norm.

    Raises:
        AdapterRefused: names the first layer that is wrong, and why.
    """
    for name in sorted(set(shapes) - set(adapter)):
        raise AdapterRefused(f"layer {_shown(name)} is missing")
    for name in sorted(set(adapter) - set(shapes)):
        raise AdapterRefused(f"layer {_shown(name)} is not one of the {len(shapes)} adapted layers")
    for name, (out, inputs) in sorted(shapes.items()):
        layer = adapter[name]
        if layer.a.dtype != torch.float32 or layer.b.dtype != torch.float32:
            raise AdapterRefused(f"layer {_shown(name)} is {layer.a.dtype}/{layer.b.dtype}, not float32")
        if layer.a.shape != (rank, inputs) or layer.b.shape != (out, rank):
            have = f"{tuple(layer.b.shape)}·{tuple(layer.a.shape)}"
            raise AdapterRefused(f"layer {_shown(name)} has factors {have}, expected ({out}, {rank})·({rank}, {inputs})")
        if not (torch.isfinite(layer.a).all() and torch.isfinite(layer.b).all() and torch.isfinite(torch.tensor(layer.scale))):
            raise AdapterRefused(f"layer {_shown(name)} holds values that are not finite")
        norm = max(layer.energy(), 0.0) ** 0.5
        if norm > MAX_NORM:
            raise AdapterRefused(f"layer {_shown(name)} has an update of norm {norm:.3g}, above the limit {MAX_NORM:.0g}")


def relative_error(adapter: Adapter, ideal: Adapter) -> dict[str, float]:
    """‖Δ_ideal − Δ‖_F / ‖Δ_ideal‖_F for every layer, without dense matrices; 0 where the ideal is zero and met."""
    out: dict[str, float] = {}
    for name, want in sorted(ideal.items()):
        difference = concatenated([want, adapter[name]], [1.0, -1.0])
        norm = _norm(want)
        # Norms from orthogonal bases: where updates cancel, energies are rounding noise, even below zero.
        gap = _norm(difference)
        out[name] = gap / norm if norm > 0 else gap
    return out


def _norm(layer: Layer) -> float:
    """‖Δ‖_F by QR, accurate also when Δ nearly vanishes."""
    exact = layer.folded()
    r1 = torch.linalg.qr(exact.b, mode="r").R
    r2 = torch.linalg.qr(exact.a.T, mode="r").R
    norm: float = torch.linalg.matrix_norm(r1 @ r2.T).item()
    return norm


def layer_names(adapters: Iterable[Adapter]) -> list[str]:
    """The common layer names, sorted.

    Raises:
        AdapterRefused: an adapter covers other layers than the first one does.
    """
    names: list[str] | None = None
    for adapter in adapters:
        mine = sorted(adapter)
        if names is not None and mine != names:
            odd = min(set(mine) ^ set(names))
            raise AdapterRefused(f"adapters cover different layers: {_shown(odd)} is not in all of them")
        names = mine
    return names or []
