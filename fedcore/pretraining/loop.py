"""The one optimisation loop of pre-training: AdamW with warm-up and cosine decay, data-parallel, EMA, exactly resumable."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

State = dict[str, Tensor]


def fast_precision() -> torch.autocast:
    """bfloat16 where this processor is quick at it; float32 elsewhere, since emulated bfloat16 is twenty times slower."""
    return torch.autocast("cpu", torch.bfloat16, enabled="AVX512" in torch.backends.cpu.get_cpu_capability())


@dataclass(frozen=True)
class Schedule:
    """`steps` in all, `lr` at the peak, after `warmup` steps; cosine down to `floor`·lr over the last share `decay` of the rest.

    `ema` is the averaging rate. With `decay` < 1 the rate holds before, so that a run can be made longer later on.
    """

    steps: int
    lr: float
    warmup: int = 100
    decay: float = 1.0
    floor: float = 0.02
    weight_decay: float = 0.01
    ema: float = 0.999

    def rate(self, step: int) -> float:
        """Learning rate at `step`."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        begin = self.steps - self.decay * (self.steps - self.warmup)
        done = max(0.0, (step - begin) / max(1, self.steps - begin))
        return self.lr * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def _average(gradients: list[Tensor], workers: int) -> None:
    """Mean over the data-parallel workers, in place, as one all-reduce."""
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= workers
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class _Trainer:
    """AdamW and averaged weights of a model, as one state that can be saved and restored exactly."""

    def __init__(self, model: nn.Module, schedule: Schedule) -> None:
        self.names = dict(model.named_parameters())
        self.parameters = list(self.names.values())
        self.average = {name: p.detach().clone() for name, p in self.names.items()}
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=schedule.lr, weight_decay=schedule.weight_decay, betas=(0.9, 0.99), fused=True
        )

    @torch.no_grad()
    def restore(self, state: State) -> int:
        """Continue from what `snapshot` gave; returns the number of steps done."""
        for name, p in self.names.items():
            p.copy_(state[f"weight/{name}"])
            self.average[name].copy_(state[f"ema/{name}"])
            moments = {"exp_avg": state[f"m/{name}"].clone(), "exp_avg_sq": state[f"v/{name}"].clone()}
            self.optimizer.state[p] = {"step": state["step"].float(), **moments}
        return int(state["step"])

    def snapshot(self, step: int) -> State:
        """Weights, averages and both moments after `step` steps."""
        out: State = {"step": torch.tensor(step)}
        for name, p in self.names.items():
            out[f"weight/{name}"], out[f"ema/{name}"] = p.detach(), self.average[name]
            moments = self.optimizer.state[p]
            out[f"m/{name}"], out[f"v/{name}"] = moments["exp_avg"], moments["exp_avg_sq"]
        return out

    def step(self, rate: float, ema: float, workers: int) -> None:
        """One update from the gradients that lie there, averaged over the workers and clipped to norm 1."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if workers > 1:
            _average([p.grad for p in self.parameters if p.grad is not None], workers)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.parameters], 1 - ema)
        self.optimizer.zero_grad(set_to_none=False)


def optimise(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    schedule: Schedule,
    *,
    workers: int,
    state: State | None,
    save_every: int,
    save: Callable[[int, State], None],
    report: Callable[[int, float], None],
) -> None:
    """Minimise `loss(step)` over `model`'s parameters; at the end the model holds the averaged (EMA) weights.

    `loss` must draw all its randomness from `step` (and the worker's rank), so that a run resumed from `state` equals an
    uninterrupted one. `save(step, state)` is called every `save_every` steps, `report(step, loss)` every 20.
    """
    trainer = _Trainer(model, schedule)
    start = 0 if state is None else trainer.restore(state)
    running = 0.0
    for done in range(start, schedule.steps):
        value = loss(done)
        value.backward()
        trainer.step(schedule.rate(done), min(schedule.ema, (1 + done) / (10 + done)), workers)
        running += value.item() / 20
        if (done + 1) % 20 == 0:
            report(done + 1, running)
            running = 0.0
        if (done + 1) % save_every == 0 or done + 1 == schedule.steps:
            save(done + 1, trainer.snapshot(done + 1))
    with torch.no_grad():
        for name, p in trainer.names.items():
            p.copy_(trainer.average[name])
