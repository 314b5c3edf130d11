"""What a client's training needs of memory, told before it begins: a step is taken on tensors that have shapes but no values."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fedcore.base import BaseModel
from fedcore.evaluation import BATCH
from fedcore.injection import Target, target_shapes
from fedcore.latents import at_most, picture_size, posterior
from fedcore.prompts import nothing
from fedcore.training import Settings


@dataclass(frozen=True)
class Needs:
    """Bytes on the device: of the base's `weights`, and of an `adapter`'s gradients and moments and itself.

    `step`, `encoding` and `measuring` are what a training step, encoding pictures, or a held-out loss, holds beside these at one
    time. `copies`: of the weights that an adapter is added to, see `fedcore.injection.merged`.
    """

    weights: int
    adapter: int
    step: int
    encoding: int
    measuring: int
    copies: int

    def training(self, beside: bool) -> int:
        """Beside the weights while a client trains; `beside`: something frozen stands beside what is trained."""
        return self.adapter + self.step + (self.copies if beside else 0)

    def total(self, beside: bool) -> int:
        """At most at one time."""
        return self.weights + max(self.training(beside), self.encoding, self.copies + self.measuring)


def needs(base: BaseModel, rank: int, target: Target, settings: Settings) -> Needs:
    """Of a `base` whose tensors may lack values (`data.base.load.imagined`); its modules are changed and of no other use afterwards."""
    parts = (*base.text_encoders, base.vae, base.denoiser)
    weights = sum(p.nbytes for part in parts for p in (*part.parameters(), *part.buffers()))
    size, batch = picture_size(base), -(-settings.batch // settings.accumulate)
    for part in parts:
        part.requires_grad_(False)
    encoding = _peak(parts, lambda: posterior(base, torch.zeros(settings.batch, 3, size, size)))
    measuring = _peak(parts, lambda: _measured(base))
    adapted = [base.denoiser.get_submodule(name).weight for name in target_shapes(base, target)]
    copies = sum(weight.nbytes for weight in adapted if weight.dtype == torch.float32)
    factors = _adapted(base, rank, target)
    base.denoiser.train()
    if settings.checkpointing:
        base.denoiser.enable_gradient_checkpointing()
    prompts = nothing(base).times(batch)
    noisy, at = torch.zeros(batch, *base.family.shape(base, None)), torch.zeros(batch, dtype=torch.int64)
    held: list[nn.Module | Tensor] = [*parts, *factors]
    step = _peak(
        held, lambda: base.family.predict(base, noisy.to(base.dtype), at, prompts.to(base.device, base.dtype), 1.0).sum().backward()
    )
    return Needs(weights, 4 * sum(f.nbytes for f in factors), step, encoding, measuring, copies)


@torch.no_grad()
def _measured(base: BaseModel) -> Tensor:
    shape = base.family.shape(base, None)
    n = at_most(BATCH, shape)
    return base.predict(torch.zeros(n, *shape), torch.zeros(n, dtype=torch.int64), nothing(base).times(n))


def _adapted(base: BaseModel, rank: int, target: Target) -> list[Tensor]:
    """Factors beside all adapted layers, as PEFT puts them there: in float32, their inputs cast to it."""
    factors: list[Tensor] = []
    for name, (rows, columns) in target_shapes(base, target).items():
        layer = base.denoiser.get_submodule(name)
        kernel = () if isinstance(layer, nn.Linear) else tuple(layer.weight.shape[2:])
        a = torch.zeros(rank, columns // max(1, kernel[0] * kernel[1] if kernel else 1), *kernel, requires_grad=True)
        b = torch.zeros(rows, rank, *(1 for _ in kernel), requires_grad=True)
        factors += [a, b]

        def beside(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, a: Tensor = a, b: Tensor = b) -> Tensor:
            x = inputs[0].float()
            if isinstance(module, nn.Conv2d):
                return output + conv2d(conv2d(x, a, None, module.stride, module.padding), b).to(output.dtype)
            return output + linear(linear(x, a), b).to(output.dtype)

        layer.register_forward_hook(beside)
    return factors


def _peak(held: Sequence[nn.Module | Tensor], do: Callable[[], object]) -> int:
    with counted(held) as count:
        do()
    return count.most


@contextmanager
def counted(held: Sequence[nn.Module | Tensor]) -> Iterator[Count]:
    """Counts what operations inside the block hold beside the tensors of `held`."""
    with Count() as count:
        for each in held:
            tensors = (*each.parameters(), *each.buffers()) if isinstance(each, nn.Module) else (each,)
            for tensor in tensors:
                count.known.add(tensor.untyped_storage())
        yield count


class Count(TorchDispatchMode):
    """Adds up the storages that operations make, and takes off those that nothing refers to any more: bytes `now`, and `most`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self.known:
                self.known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def _gone(self, size: int) -> None:
        self.now -= size
