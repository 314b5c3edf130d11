"""Pictures from encoded prompts, in batches; the text itself is never needed."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedcore.base import BaseModel, Conditioning
from fedcore.composition import Parts
from fedcore.course import Course
from fedcore.latents import at_most, decode
from fedcore.sampling import advance, begin, length

BATCH = 16


def generate(
    base: BaseModel,
    course: Course,
    prompts: Conditioning,
    plan: Callable[[int], Parts],
    *,
    seeds: Sequence[int],
    batch: int = BATCH,
    on_step: Callable[[int, int], None] = lambda _done, _of: None,
    check: Callable[[Tensor], None] = lambda _: None,
) -> Tensor:
    """uint8 pictures (n, 3, h, w) for n `prompts`; picture i starts from noise drawn with `seeds[i]` alone.

    `check` sees each batch's latents before they become pictures.
    """
    parts = torch.arange(len(seeds)).split(at_most(batch, base.family.shape(base, course.size)))
    pictures, steps = [], length(base, course)
    for i, part in enumerate(parts):
        began = begin(base, course, [seeds[int(row)] for row in part])

        def told(done: int, before: int = i * steps) -> None:
            on_step(before + done, steps * len(parts))

        made = advance(base, course, began, prompts.rows(part), plan, on_step=told)
        check(made.latents)
        pictures.append(decode(base, made.latents))
    return torch.cat(pictures)
