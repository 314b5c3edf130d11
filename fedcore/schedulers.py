"""Samplers by name, each made from the base's own noise schedule; and what the ones with a memory have to carry from step to step."""

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from fedcore.base import SAMPLER, BaseModel, Shape
from fedcore.errors import InputError
from fedcore.families.timesteps import dynamic_shift
from fedcore.noise import Flow

DIFFUSION = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "dpm++": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "pndm": PNDMScheduler,
    "heun": HeunDiscreteScheduler,
    "lms": LMSDiscreteScheduler,
}
FLOW = {"euler": FlowMatchEulerDiscreteScheduler, "dpm++": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler}
OWN = {kind.__name__: name for name, kind in DIFFUSION.items()}
"""Names of those that a base's folder may name as its own; for another one, that draws noise at every step mostly, DDIM stands in."""


def names(base: BaseModel) -> tuple[str, ...]:
    """The samplers that go with a base."""
    return tuple(FLOW if isinstance(base.process, Flow) else DIFFUSION)


def insist_on_name(base: BaseModel, name: str | None) -> None:
    """Refuse a sampler that does not go with this base.

    Raises:
        InputError: its name, and those that do.
    """
    if name is not None and name not in names(base):
        raise InputError(f"there is no scheduler '{name}' for a {base.family.pipeline}; there are {', '.join(names(base))}")


def scheduler(base: BaseModel, name: str | None, steps: int, shape: Shape) -> Any:
    """A fresh scheduler with its timesteps set; None: the one that the base's folder names, if it is one of these, else DDIM.

    For flows that is Euler. Predicted pictures are never clipped: latents have no such bounds, and diffusers' pipelines do not.

    Raises:
        InputError: no such sampler goes with this base, or not with so many steps.
    """
    insist_on_name(base, name)
    flows, config = isinstance(base.process, Flow), base.scheduler.config
    name = name or ("euler" if flows else OWN.get(base.options.get(SAMPLER, ""), "ddim"))
    if flows and name != "euler":
        flow: dict[str, Any] = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": config.shift}
        made = FLOW[name](num_train_timesteps=config.num_train_timesteps, use_dynamic_shifting=config.use_dynamic_shifting, **flow)
        made.set_timesteps(steps, **dynamic_shift(base.scheduler, shape))
        return made
    if flows:
        made = FlowMatchEulerDiscreteScheduler.from_config(config, stochastic_sampling=False)
    else:
        made = DIFFUSION[name].from_config(config, **_beside(base, name))
    try:
        base.family.schedule(made, steps, shape)
    except ValueError:
        raise InputError(f"the scheduler '{name}' cannot take {steps} steps; give it more") from None
    if bool((made.timesteps < 0).any()):  # diffusers spaces some numbers of steps by a fraction that rounding makes one too many
        raise InputError(f"the scheduler '{name}' cannot take {steps} steps evenly; give it a few more or fewer")
    return made


ALMOST_NOTHING = 2.0**-24
"""What is left of the signal where a schedule ends without any, so that it may be divided by; diffusers' Euler takes the same."""


def _beside(base: BaseModel, name: str) -> dict[str, Any]:
    """What a scheduler is told beside the base's configuration: nothing is clipped, nor drawn by lot."""
    config, told = base.scheduler.config, dict[str, Any]()
    if name in ("ddim", "heun"):
        told["clip_sample"] = False
    if name == "dpm++":
        told["algorithm_type"] = config.get("algorithm_type", "dpmsolver++").removeprefix("sde-")
    if name not in ("pndm", "heun", "lms") or not config.get("rescale_betas_zero_snr"):
        return told
    alphas = base.scheduler.alphas_cumprod.double().clamp(min=ALMOST_NOTHING)  # they know no other way to such a schedule
    return {**told, "trained_betas": (1 - alphas / torch.cat([torch.ones(1).double(), alphas[:-1]])).tolist()}


_tried: WeakKeyDictionary[BaseModel, dict[tuple[str | None, int, Shape], bool]] = WeakKeyDictionary()


def insist_on_way(base: BaseModel, name: str | None, steps: int, shape: Shape) -> None:
    """Refuse what a scheduler cannot do: very many steps are too fine for some. Every way is tried once, which takes up to seconds.

    Raises:
        InputError: no such sampler goes with this base, or not with so many steps.
    """
    made, known = scheduler(base, name, steps, shape), _tried.setdefault(base, {})
    if (way := (name, steps, shape)) not in known:
        known[way] = _goes(made)
    if not known[way]:
        raise InputError(f"the scheduler '{name or made.__class__.__name__}' cannot take {steps} steps; give it another number")


def _goes(made: Any) -> bool:
    """The whole way with nothing to draw ends in a number."""
    current = torch.full((1, 1, 1, 1), float(getattr(made, "init_noise_sigma", 1.0)))
    try:
        for timestep in made.timesteps:
            if hasattr(made, "scale_model_input"):
                made.scale_model_input(current, timestep)
            current = made.step(torch.full_like(current, 0.1), timestep, current).prev_sample
    except (IndexError, AssertionError):
        return False
    return bool(torch.isfinite(current).all())


MEMORY = (
    "model_outputs", "timestep_list", "last_sample", "lower_order_nums", "this_order", "_step_index", "counter", "ets",
    "cur_model_output", "cur_sample", "prev_derivative", "dt", "sample", "derivatives",
)  # fmt: skip
"""What diffusers' schedulers change while they step."""


def remembered(scheduler: Any) -> dict[str, Tensor]:
    """A scheduler's memory after some steps, as tensors; lists by index, what is empty left out."""
    out: dict[str, Tensor] = {}
    for name in MEMORY:
        value = getattr(scheduler, name, None)
        for key, part in ((f"{name}.{i}", v) for i, v in enumerate(value)) if isinstance(value, list) else ((name, value),):
            if part is not None:
                out[key] = part if isinstance(part, Tensor) else torch.tensor(part)
    return out


def remembered_like(base: BaseModel, name: str | None, steps: int, latents: tuple[int, ...], done: int) -> dict[str, Tensor]:
    """What a scheduler remembers of latents (n, channels, h, w) after `done` steps: names, shapes, and the same whole numbers."""
    made = scheduler(base, name, steps, latents[1:4])  # type: ignore[arg-type]
    current = torch.zeros(latents)
    for timestep in made.timesteps[:done]:
        if hasattr(made, "scale_model_input"):
            made.scale_model_input(current, timestep)
        made.step(current, timestep, current)
    return remembered(made)


def remind(scheduler: Any, memory: Mapping[str, Tensor]) -> None:
    """Put a memory back into a fresh scheduler of the same kind."""
    for name in MEMORY:
        value = getattr(scheduler, name, None)
        if isinstance(value, list):
            known = [int(key.removeprefix(f"{name}.")) + 1 for key in memory if key.startswith(f"{name}.")]
            setattr(scheduler, name, [memory.get(f"{name}.{i}") for i in range(max([len(value), *known]))])
        elif name in memory:
            setattr(scheduler, name, memory[name] if memory[name].ndim else memory[name].item())
