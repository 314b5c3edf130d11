"""Generate: a user's pictures, made on the client's side; the prompt is encoded there and goes nowhere else."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.home import Home
from data.records import Model, RoundRecord, bound, rounds
from data.store import insist_on_png, write_atomically
from fedcore.errors import InputError
from tasks._models import base_of, load_bank, load_model

if TYPE_CHECKING:
    from torch import Tensor

    from fedcore.base import BaseModel


@dataclass(frozen=True)
class Who:
    """Whose style: a client's personal model, or clusters with their weights (`auto`: those that the prompt asks for); else the base's."""

    client: str | None = None
    clusters: Mapping[int, float] | None = None
    auto: bool = False


@dataclass(frozen=True)
class How:
    """What decides a picture beside the model and the prompt."""

    compose: str = "sum"
    seed: int = 0
    number: int = 1
    steps: int = 30
    guidance: float = 3.0
    scheduler: str | None = None
    size: int | None = None


def personal(record: RoundRecord, client: str) -> Model:
    """A client's personal model.

    Raises:
        InputError: there is no such client, or it was left out.
    """
    known = record.clients.get(client)
    if known is None:
        raise InputError(f"there is no client '{client}' in this run; its clients are {', '.join(sorted(record.clients))}")
    if known.personal is None:
        raise InputError(f"client '{client}' has no adapter yet: {known.failed or 'it was not asked for one so far'}")
    return record.model_of(client)


def of_cluster(record: RoundRecord, cluster: int) -> Model:
    """A cluster's model.

    Raises:
        InputError: there is no such cluster.
    """
    if cluster not in record.clusters:
        raise InputError(f"there is no cluster {cluster} in this run; its clusters are {', '.join(map(str, sorted(record.clusters)))}")
    return ((1.0, record.clusters[cluster].adapter),)


def last_round(home: Home, name: str) -> RoundRecord:
    """A run's last finished round.

    Raises:
        InputError: it has none yet.
        ConfigError: there is no run of this name.
    """
    bound(home.server(), name)
    records = rounds(home.server(), name)
    if not records:
        raise InputError(f"run '{name}' has no finished round yet; `fedcore resume {name}` continues it")
    return records[-1]


def generate(home: Home, name: str, who: Who, how: How, *, prompt: str, keep: bool, out: Path, on_step: Callable[[int, int], None]) -> None:
    """Draw pictures with the last round's adapters and write them as PNG, several as a grid. Equal arguments give equal bytes.

    The file's metadata holds what is needed to make it again: `keep` the prompt, too.

    Raises:
        InputError: no such run, client, cluster, composition or scheduler, a size that the base cannot draw, a run without rounds,
            or `out` is no place for a PNG; or what was drawn cannot be shown.
        BaseModelError: the base cannot be opened, or holds other weights by now.
        TooLarge: memory does not suffice.
    """
    record = last_round(home, name)
    if who.client is not None:
        personal(record, who.client)
    for cluster in who.clusters or {}:
        of_cluster(record, cluster)
    import torch

    from fedcore import generation
    from fedcore.composition import COMPOSITIONS
    from fedcore.course import Course
    from fedcore.prompts import encode
    from fedcore.sampling import insist_on_course, insist_on_finite
    from fedcore.seeds import derive
    from fedcore.training import enough_memory

    torch.set_num_threads(1)
    base = base_of(home, name, record)
    if how.compose not in COMPOSITIONS:
        raise InputError(f"there is no composition '{how.compose}'; there are {', '.join(COMPOSITIONS)}")
    course = Course(how.steps, how.guidance, how.scheduler, how.size)
    insist_on_course(base, course)
    insist_on_png(out)
    chosen = models_of(home, record, base, who, prompt)
    parts = [(weight, adapter) for weight, _, model in chosen if (adapter := load_model(model)) is not None]
    seeds = [how.seed if i == 0 else derive(how.seed, "further picture", i) for i in range(how.number)]
    prompts = encode(base, [prompt]).prompts.times(how.number)
    with enough_memory():
        pictures = generation.generate(
            base, course, prompts, COMPOSITIONS[how.compose](parts), seeds=seeds, on_step=on_step, check=insist_on_finite
        )
    made_with = [{"weight": w, "style": style, "adapters": [(share, ref.sha256) for share, ref in model]} for w, style, model in chosen]
    about = {"run": name, "round": record.round, "base": record.base, **asdict(how), "styles": made_with}
    write_png(out, pictures, about, prompt if keep else None)


def write_png(out: Path, pictures: "Tensor", about: Mapping[str, object], prompt: str | None) -> None:
    """A picture, or several as a grid, from uint8 (n, 3, h, w); in its metadata `about`, and the prompt where it is given."""
    from PIL import Image, PngImagePlugin

    from data.gallery import grid

    note = PngImagePlugin.PngInfo()
    note.add_text("fedcore", json.dumps({**about, **({} if prompt is None else {"prompt": prompt})}, sort_keys=True))
    png = io.BytesIO()
    (Image.fromarray(pictures[0].permute(1, 2, 0).numpy()) if len(pictures) == 1 else grid(pictures)).save(png, "PNG", pnginfo=note)
    write_atomically(out, png.getvalue())


def models_of(home: Home, record: RoundRecord, base: "BaseModel", who: Who, prompt: str) -> list[tuple[float, str, Model]]:
    """Weight, name and model of every style that takes part."""
    if who.client is not None:
        return [(1.0, who.client, personal(record, who.client))]
    weights = routed(home, record, base, prompt) if who.auto else who.clusters or {}
    return [(weight, f"cluster {c}", of_cluster(record, c)) for c, weight in sorted(weights.items())]


LEAST = 0.05
"""A cluster that the router gives less takes no part, unless none is given more."""


def routed(home: Home, record: RoundRecord, base: "BaseModel", prompt: str) -> dict[int, float]:
    """Weights of the clusters whose wishes the encoded prompt is near, summing to one."""
    from fedcore.interaction import route
    from fedcore.prompts import THINGS, requirement

    store = home.server()
    bank = load_bank(store, {str(i): cluster.adapter for i, cluster in record.clusters.items() if cluster.members}, record.bank)
    weights = route(bank, requirement(base, prompt, THINGS))
    found = {c: w for c, w in weights.items() if w >= min(LEAST, max(weights.values()))}
    return {c: w / sum(found.values()) for c, w in found.items()}
