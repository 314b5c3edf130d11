"""From noise to a picture, in steps that may stop anywhere and go on elsewhere: on another machine, with other adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedcore.adapters import Adapter
from fedcore.base import BaseModel, Conditioning
from fedcore.composition import Parts, weighted_sum
from fedcore.course import MOST_GUIDANCE, MOST_PIXELS, MOST_STEPS, Course
from fedcore.errors import InputError
from fedcore.injection import injected
from fedcore.latents import insist_on_size
from fedcore.prompts import nothing
from fedcore.schedulers import insist_on_way, remembered, remind, scheduler
from fedcore.seeds import generator


@dataclass(frozen=True)
class State:
    """Pictures on their way: latents (n, channels, h, w), how many steps are `done`, and what the scheduler remembers of them."""

    latents: Tensor
    done: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)

    def rows(self, index: Tensor | slice) -> State:
        """Some of the pictures."""
        n = len(self.latents)
        memory = {name: value[index] if value.ndim and len(value) == n else value for name, value in self.memory.items()}
        return State(self.latents[index], self.done, memory)


def insist_on_course(base: BaseModel, course: Course) -> None:
    """Refuse what cannot be drawn.

    Raises:
        InputError: no such scheduler goes with the base, or not with so many steps; guidance or size are impossible.
    """
    if not -MOST_GUIDANCE <= course.guidance <= MOST_GUIDANCE:
        raise InputError(f"guidance is {course.guidance}; give a number from {-MOST_GUIDANCE:g} to {MOST_GUIDANCE:g}, such as 3")
    if not 1 <= course.steps <= MOST_STEPS:
        raise InputError(f"{course.steps} steps cannot be taken; give 1 to {MOST_STEPS}")
    if course.size is not None and course.size > MOST_PIXELS:
        raise InputError(f"pictures of {course.size} pixels cannot be drawn; at most {MOST_PIXELS} are possible")
    insist_on_size(base, course.size)
    insist_on_way(base, course.scheduler, course.steps, base.family.shape(base, course.size))


def insist_on_finite(latents: Tensor) -> None:
    """Refuse to show what would be black.

    Raises:
        InputError: the numbers grew beyond what can be computed with.
    """
    if not bool(torch.isfinite(latents).all()):
        raise InputError("the picture grew beyond all numbers; lower the guidance, or take another adapter or precision")


def length(base: BaseModel, course: Course) -> int:
    """How many steps there are to take, in each of which the denoiser is asked once."""
    return len(scheduler(base, course.scheduler, course.steps, base.family.shape(base, course.size)).timesteps)


def begin(base: BaseModel, course: Course, seeds: Sequence[int]) -> State:
    """Noise, for each picture from its own seed alone."""
    shape = base.family.shape(base, course.size)
    noise = torch.stack([torch.randn(shape, generator=generator(seed, "picture")) for seed in seeds])
    return State(noise * getattr(scheduler(base, course.scheduler, course.steps, shape), "init_noise_sigma", 1.0))


@torch.no_grad()
def advance(
    base: BaseModel,
    course: Course,
    state: State,
    prompts: Conditioning,
    plan: Callable[[int], Parts],
    *,
    until: int | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> State:
    """Go on until `until` steps are done (None: all). `plan` names the adapters of a step, see `fedcore.composition`.

    Halves that are put together give the bits of one go, if the batch is the same. Adapters stand beside the weights, as in
    diffusers, whose pictures with the exported adapter are the same.
    """
    shape = base.family.shape(base, course.size)
    steps = scheduler(base, course.scheduler, course.steps, shape)
    remind(steps, state.memory)
    current, last = state.latents, len(steps.timesteps) if until is None else until
    base.denoiser.eval()
    with ExitStack() as stack:
        held = _Held(base, stack)
        for done in range(state.done, last):
            timestep = steps.timesteps[done]
            scaled = steps.scale_model_input(current, timestep) if hasattr(steps, "scale_model_input") else current
            predicted: Tensor | None = None
            mixture: Sequence[tuple[float, Adapter | None]] = plan(done) or [(1.0, None)]
            for weight, adapter in mixture:
                held.hold(adapter)
                mine = _guided(base, scaled, timestep, prompts, course.guidance)
                mine = mine if weight == 1.0 else weight * mine
                predicted = mine if predicted is None else predicted + mine
            current = steps.step(predicted, timestep, current).prev_sample
            on_step(done + 1)
    return State(current, last, remembered(steps))


class _Held:
    """The adapter that is in the denoiser now; it is changed only for another one."""

    def __init__(self, base: BaseModel, stack: ExitStack) -> None:
        self._denoiser, self._stack = base.denoiser, stack
        self._now: Adapter | None = None
        stack.enter_context(injected(base.denoiser, None))

    def hold(self, adapter: Adapter | None) -> None:
        if adapter is not self._now:
            self._stack.close()
            self._stack.enter_context(injected(self._denoiser, adapter))
            self._now = adapter


def alone(adapter: Adapter | None) -> Callable[[int], Parts]:
    """The plan for one adapter, or for the plain base."""
    return weighted_sum([] if adapter is None else [(1.0, adapter)])


def _guided(base: BaseModel, latents: Tensor, timestep: Tensor, prompts: Conditioning, guidance: float) -> Tensor:
    """The prediction for latents (n, channels, h, w) at one timestep, guided (arXiv 2207.12598) as the family is; not at all up to 1."""
    if not base.family.two_passes or guidance <= 1:
        return base.predict(latents, timestep.expand(len(latents)), prompts, guidance)
    both = nothing(base).times(len(prompts)).followed_by(prompts)
    twice = torch.cat([latents, latents])
    plain, wished = base.predict(twice, timestep.expand(len(twice)), both).chunk(2)
    return plain + guidance * (wished - plain)
