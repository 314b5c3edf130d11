"""Local training: a client's pictures, as cached latents and prompt encodings, move a LoRA adapter; nothing else of the model changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedcore.adapters import Adapter, Layer
from fedcore.aggregation.rule import Trains
from fedcore.base import BaseModel, Conditioning
from fedcore.errors import TooLarge
from fedcore.injection import injected, merged, read_back
from fedcore.prompts import nothing
from fedcore.seeds import derive, generator

if TYPE_CHECKING:
    from fedcore.base import Denoiser

State = dict[str, Tensor]
"""Everything that training needs to go on: see `train`."""


@dataclass(frozen=True)
class Examples:
    """A client's pictures, encoded once.

    `mean`, `log_variance`: (n, channels, h, w), the autoencoder's posterior, scaled; training resamples from it, so the
    cached law equals the uncached one. `prompts`: their n prompts.
    Rows stay in the table's order, so row i of every tensor is the same picture.
    """

    mean: Tensor
    log_variance: Tensor
    prompts: Conditioning

    def __len__(self) -> int:
        return len(self.mean)

    def rows(self, index: Tensor) -> Examples:
        """The chosen rows, (k,) indices."""
        return Examples(self.mean[index], self.log_variance[index], self.prompts.rows(index))


@dataclass(frozen=True)
class Settings:
    """Local training: `steps` of `batch` pictures, AdamW at `lr` with linear warm-up over a tenth of the steps.

    `min_snr` is γ of min-SNR weighting (0: off; without meaning for flows); `caption_dropout` the share of examples trained
    without caption; `clip_norm` the largest gradient norm; `prox` the weight μ of the proximal term, see `train`. To save memory, a
    batch goes through the model in `accumulate` parts, and `checkpointing` computes activations twice instead of keeping them.
    """

    steps: int
    batch: int
    lr: float
    min_snr: float
    caption_dropout: float
    clip_norm: float
    weight_decay: float
    prox: float = 0.0
    accumulate: int = 1
    checkpointing: bool = False


@dataclass(frozen=True)
class Trained:
    """The adapter after training and the (weighted) training loss of every step."""

    adapter: dict[str, Layer]
    losses: list[float]


def batches(rows: int, batch: int, steps: int, seed: int) -> Tensor:
    """Row indices (steps, batch): every epoch a new permutation of all rows, epochs running into each other."""
    needed = steps * batch
    epochs = -(-needed // rows)
    order = torch.cat([torch.randperm(rows, generator=generator(seed, "epoch", e)) for e in range(epochs)])
    return order[:needed].view(steps, batch)


def train(
    base: BaseModel,
    examples: Examples,
    start: Adapter,
    settings: Settings,
    *,
    seed: int,
    trains: Trains = "ab",
    beside: Adapter | None = None,
    anchor: Adapter | None = None,
    state: State | None = None,
    save_every: int = 0,
    save: Callable[[State], None] = lambda _: None,
) -> Trained:
    """Fine-tune `start` on `examples`; `seed` must already be this client's and round's own.

    `trains` names the factors that move, the other stays as it is. `beside` is frozen, and added to the base's weights
    meanwhile. With `settings.prox` μ > 0 the loss has `μ/2 Σ ‖Δ − Δ_anchor‖²_F` added, over all layers: FedProx (arXiv
    1812.06127) with the `start` as anchor, which is the default; Ditto (arXiv 2012.04221) with another one. It is the distance
    of the models themselves: their factors may lie far apart where the same update was factored anew.

    Every step: draw a batch; resample its latents; noise them at random timesteps; predict; weighted squared error;
    clip the gradient; step AdamW. All randomness of step i comes from (seed, i), so training continued from a `state` that
    `save` was given (every `save_every` steps; 0: never) ends with the same bits as uninterrupted training.
    """
    denoiser = base.denoiser
    plan = batches(len(examples), settings.batch, settings.steps, derive(seed, "order"))
    losses: list[float] = []
    with enough_memory(), _in_training(denoiser, settings.checkpointing), merged(denoiser, beside), injected(denoiser, start) as factors:
        moving = [trains == "ab" or trains == factor for factor in "ab" * (len(factors) // 2)]
        parameters = [p for p, moves in zip(factors, moving, strict=True) if moves]
        for p in parameters:
            p.requires_grad_(True)
        optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
        if state is not None:
            losses = _restore(parameters, optimizer, state)
        warmup = max(1, settings.steps // 10)
        for step in range(len(losses), len(plan)):
            index = plan[step]
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * min(1.0, (step + 1) / warmup)
            optimizer.zero_grad()
            losses.append(_backward(base, examples.rows(index), settings, generator(seed, "step", step), parameters))
            if settings.prox:
                _pull(factors, start, anchor or start, settings.prox)
            nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            optimizer.step()
            if save_every and (step + 1) % save_every == 0:
                save(_snapshot(parameters, optimizer, losses))
        adapter = read_back(denoiser)
    return Trained(adapter, losses)


def _snapshot(parameters: list[nn.Parameter], optimizer: torch.optim.AdamW, losses: list[float]) -> State:
    """Factors, both moments and the losses so far; copies."""
    out: State = {"losses": torch.tensor(losses, dtype=torch.float64)}
    for i, p in enumerate(parameters):
        moments = optimizer.state[p]
        out |= {f"{i:04}/value": p, f"{i:04}/m": moments["exp_avg"], f"{i:04}/v": moments["exp_avg_sq"]}
    return {name: value.detach().clone() for name, value in out.items()}


@torch.no_grad()
def _restore(parameters: list[nn.Parameter], optimizer: torch.optim.AdamW, state: State) -> list[float]:
    """Put everything back as it was; returns the losses so far, one a step."""
    losses: list[float] = state["losses"].tolist()
    for i, p in enumerate(parameters):
        p.copy_(state[f"{i:04}/value"])
        moments = {"exp_avg": state[f"{i:04}/m"].clone(), "exp_avg_sq": state[f"{i:04}/v"].clone()}
        optimizer.state[p] = {"step": torch.tensor(float(len(losses))), **moments}
    return losses


@torch.no_grad()
def _pull(factors: list[nn.Parameter], like: Adapter, anchor: Adapter, prox: float) -> None:
    """Add the gradient of `μ/2 ‖s B A − Δ_anchor‖²_F` to those factors that have one, without a dense update.

    With respect to A it is `μ s Bᵀ (s B A − s₀ B₀ A₀)`, with respect to B `μ s (s B A − s₀ B₀ A₀) Aᵀ`.
    """
    for a, b, (name, layer) in zip(factors[::2], factors[1::2], sorted(like.items()), strict=True):
        x, y, there = a.flatten(1), b.flatten(1), anchor[name]
        x0, y0 = there.a.to(x), there.b.to(y)
        if a.grad is not None:
            a.grad += (prox * layer.scale * (layer.scale * (y.T @ y) @ x - there.scale * (y.T @ y0) @ x0)).view_as(a)
        if b.grad is not None:
            b.grad += (prox * layer.scale * (layer.scale * y @ (x @ x.T) - there.scale * y0 @ (x0 @ x.T))).view_as(b)


@contextmanager
def _in_training(denoiser: Denoiser, checkpointing: bool) -> Iterator[None]:
    denoiser.train()
    if checkpointing:
        denoiser.enable_gradient_checkpointing()
    try:
        yield
    finally:
        denoiser.disable_gradient_checkpointing()
        denoiser.eval()


SCALE = 2.0**12
"""Of losses in half precision fp16, whose gradients would vanish below 6e-8."""


def _backward(base: BaseModel, batch: Examples, settings: Settings, draw: torch.Generator, parameters: list[nn.Parameter]) -> float:
    """Add up the gradient of one step's weighted loss, and return the loss; all randomness from `draw`, for the batch as a whole."""
    shape, n = batch.mean.shape, len(batch)
    clean = batch.mean + torch.exp(0.5 * batch.log_variance) * torch.randn(shape, generator=draw)
    noise = torch.randn(shape, generator=draw)
    timesteps = base.process.draw(n, draw)
    told = torch.rand(n, generator=draw) >= settings.caption_dropout
    prompts = batch.prompts.where(told, nothing(base))
    noisy, target = base.process.noised(clean, noise, timesteps)
    weights = base.process.weights(timesteps, settings.min_snr)
    scale, total = SCALE if base.dtype == torch.float16 else 1.0, 0.0
    for part in torch.arange(n).chunk(settings.accumulate):
        predicted = base.predict(noisy[part], timesteps[part], prompts.rows(part))
        error = (predicted - target[part]).square().mean(dim=(1, 2, 3))
        loss = (weights[part] * error).mean() * (len(part) / n)
        (loss * scale).backward()
        total += loss.item()
    if scale != 1.0:
        for p in parameters:
            if p.grad is not None:
                p.grad = torch.nan_to_num(p.grad / scale)  # what overflowed in fp16 says nothing of the way
    return total


@contextmanager
def enough_memory() -> Iterator[None]:
    """Say in one line what to lower where the device's memory does not suffice.

    Raises:
        TooLarge: it does not.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "alloc_cpu" not in str(error):
            raise
        raise TooLarge(
            "the device's memory does not suffice; lower training.batch, raise training.accumulate, set training.checkpointing: true "
            f"or precision: bf16; or draw fewer or smaller pictures ({str(error).split('. ')[0]})"
        ) from None
