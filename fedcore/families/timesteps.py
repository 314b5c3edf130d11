"""How a scheduler is given its timesteps."""

from __future__ import annotations

from typing import Any

from fedcore.base import Shape


def plain_schedule(scheduler: Any, steps: int, shape: Shape) -> None:  # noqa: ARG001 the same for every family
    """The scheduler's own timesteps."""
    scheduler.set_timesteps(steps)


def offset_by_one(scheduler: Any, steps: int, shape: Shape) -> None:
    """Its own, begun at one where they lead: so the family's pipeline mends old configurations that begin at nought."""
    scheduler.register_to_config(steps_offset=1)
    plain_schedule(scheduler, steps, shape)


def dynamic_shift(scheduler: Any, shape: Shape) -> dict[str, float]:
    """μ for schedulers that shift by the number of 2×2 patches (Flux's line between two sizes); nothing for others."""
    of = scheduler.config
    if not getattr(of, "use_dynamic_shifting", False):
        return {}
    patches = (shape[1] // 2) * (shape[2] // 2)
    slope = (of.max_shift - of.base_shift) / (of.max_image_seq_len - of.base_image_seq_len)
    return {"mu": patches * slope + of.base_shift - slope * of.base_image_seq_len}
