"""Assess: what a model of the benchmark is worth beyond its own client's pictures. It knows the emoji pack, and no client."""

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from data.home import Home
from data.records import Model
from fedcore.course import Course
from tasks._models import load_model, load_parts
from tasks._stage import BaseJob, Made

if TYPE_CHECKING:
    from torch import Tensor

    from fedcore.base import BaseModel
    from fedcore.training import Examples

PLAIN = 4
"""Unseen subjects of each base style, for what is forgotten."""


class DrawJob(BaseJob):
    """Pictures of reserved subjects of `style` by `model`, whose parts are put together as `compose` says.

    Models of which something is said together draw as `who` they are: other subjects, from other noise, so that their pictures
    differ where the models do not. Without it, the first subjects are drawn.
    """

    stage: ClassVar[str] = "draw"
    stage_version: ClassVar[int] = 2

    model: Model
    style: str
    pictures: int
    steps: int
    guidance: float
    seed: int
    compose: str = "sum"
    who: str = ""


class SplitJob(DrawJob):
    """The same after `done` steps by the model `early`, towards the prompt, or towards `generic` where that is given."""

    stage: ClassVar[str] = "draw-split"
    stage_version: ClassVar[int] = 2

    early: Model
    done: int
    generic: str | None


class AssessJob(DrawJob):
    """The same, and the losses of the model on pictures that its client never had."""

    stage: ClassVar[str] = "assess"
    stage_version: ClassVar[int] = 2

    timesteps: int


def drawn(job: DrawJob) -> Made:
    """`features` (pictures, 128) of what it draws, and the hands that the judge takes the pictures for."""
    from fedcore.composition import COMPOSITIONS
    from fedcore.generation import generate
    from fedcore.prompts import encode

    base, names, seeds = job.open_base(), *_asked(job)
    plan = COMPOSITIONS[job.compose](load_parts(job.model))
    return _looked_at(generate(base, Course(job.steps, job.guidance), encode(base, names).prompts, plan, seeds=seeds))


def drawn_split(job: SplitJob) -> Made:
    """As `drawn`, the early steps by another model."""
    from fedcore import sampling
    from fedcore.latents import decode
    from fedcore.prompts import encode

    base, names, seeds = job.open_base(), *_asked(job)
    course, wished = Course(job.steps, job.guidance), encode(base, names).prompts
    towards = wished if job.generic is None else encode(base, [job.generic]).prompts.times(len(names))
    state = sampling.begin(base, course, seeds)
    state = sampling.advance(base, course, state, towards, sampling.alone(load_model(job.early)), until=job.done)
    return _looked_at(decode(base, sampling.advance(base, course, state, wished, sampling.alone(load_model(job.model))).latents))


def _asked(job: DrawJob) -> tuple[list[str], list[int]]:
    """What is drawn, and the seeds of the noise."""
    from data.emoji.benchmark import reserved
    from fedcore.seeds import derive

    of = reserved(job.style)
    if job.who:
        of.sort(key=lambda d: derive(job.seed, "subject", job.who, d.subject))
    names = [d.names[0] for d in of[: job.pictures]]
    return names, [derive(job.seed, "draw", job.style, job.who, i) for i in range(len(names))]


def _looked_at(made: "Tensor") -> Made:
    """Pictures, uint8 (n, 3, h, w), with their features and the hands that the judge takes them for."""
    import torch
    from safetensors.torch import save

    from data.base.features import load_features
    from data.base.judge import load_judge

    with torch.no_grad():
        features = load_features().of(made).contiguous()
    store = Home.current().server()
    return Made(
        {
            "features": store.put(save({"features": features}), "features", ".safetensors"),
            "pictures": store.put(save({"pictures": made}), "pictures", ".safetensors"),
        },
        {"named": load_judge().name(made)},
    )


def assessed(job: AssessJob) -> Made:
    """As `drawn`; and the mean loss on its style's reserved pictures (`style`) and on the base's own styles (`plain`)."""
    from fedcore.evaluation import heldout_losses

    base, model = job.open_base(), load_model(job.model)
    made = drawn(job)
    for what, examples in (("style", _reserved(base, job.style)), ("plain", _plain(base))):
        losses = heldout_losses(base, examples, model, timesteps=job.timesteps, seed=job.seed)
        made.record[what] = losses.mean().item()
    return made


@lru_cache(maxsize=16)
def _reserved(base: "BaseModel", style: str) -> "Examples":
    """A style's reserved drawings, captioned as clients caption theirs."""
    from data.emoji.benchmark import reserved

    of = reserved(style)
    return _examples(base, [d.png for d in of], [d.names[0] for d in of])


@lru_cache(maxsize=1)
def _plain(base: "BaseModel") -> "Examples":
    """Drawings of the base's styles of subjects that nobody was trained on, captioned with their styles' words."""
    from data.emoji.pack import base_drawings
    from data.emoji.styles import STYLES
    from fedcore.pretraining.captions import STYLE_WORDS

    unseen = [d for d in base_drawings() if d.unseen]
    of = [d for style in STYLES for d in [d for d in unseen if d.style == style.name][:PLAIN]]
    return _examples(base, [d.png for d in of], [f"{d.names[0]}, {STYLE_WORDS[d.style][0]}" for d in of])


def _examples(base: "BaseModel", pngs: list[bytes], captions: list[str]) -> "Examples":
    from data.emoji.pack import pixels
    from fedcore.latents import posterior
    from fedcore.prompts import encode
    from fedcore.training import Examples

    return Examples(*posterior(base, pixels(pngs).float() / 127.5 - 1), encode(base, captions).prompts)
