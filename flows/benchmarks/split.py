"""What it costs and what it changes to have an edge server take a picture's early steps: over split points, with and without the prompt."""

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from data.base.folder import base_folder
from data.home import Home
from data.manifests import Manifest
from data.records import Model, RoundRecord
from fedcore.config import Federation
from fedcore.course import Course
from fedcore.errors import InputError
from fedcore.statistics import Interval, bootstrap, paired
from flows.benchmarks.quality import distances, features_of, real_features
from tasks._dispatch import scheduled
from tasks._models import base_of, load_model
from tasks._stage import commit
from tasks.assess import DrawJob, SplitJob, drawn, drawn_split

if TYPE_CHECKING:
    from fedcore.adapters import Adapter
    from fedcore.base import BaseModel
    from flows.benchmarks.quality import Features

PICTURES, STEPS, GUIDANCE = 12, 20, 3.0
"""Of every client: how many, and how they are drawn."""
SPLITS = (0, 2, 5, 10, 15, 20)
"""Steps that the server takes."""
USERS = (1, 4, 16)
"""How many share a batch of the server."""
REPEATS = 3
"""Timings of a batch's step; the one in the middle counts."""

LIKE = 0.9
"""From this agreement on, a picture shows the same as the one that it is set against, drawn a little differently."""

Variant = Literal["own", "generic"]
ALONE: tuple[Variant, int] = ("own", 0)
"""The personal model draws all."""
VARIANTS: dict[Variant, str] = {"own": "the encoded prompt is handed over", "generic": "nothing of the prompt is handed over"}


@dataclass(frozen=True)
class Point:
    """One split: `done` steps by the server, towards the user's `own` prompt or a `generic` one.

    `kid` is the kernel distance of each user's pictures from the real ones of its style, and `farther` how much more than that
    of the personal model's alone; `retrieval` the share that the judge takes for the user's style, `lost` how much less that
    is than with the personal model alone; `agreement` the mean cosine of
    each picture's features to those of the picture that the personal model draws alone. All intervals are over users.
    """

    variant: Variant
    done: int
    kid: float
    farther: Interval
    retrieval: float
    lost: Interval
    agreement: Interval


@dataclass(frozen=True)
class Costs:
    """Seconds of one denoising step by the number of users in the batch, seconds to decode a picture, bytes by steps done."""

    step: Mapping[int, float]
    decode: float
    request: Mapping[Variant, int]
    handover: Mapping[int, int]

    def server(self, done: int, users: int) -> float:
        """Seconds of the server for each user."""
        return done * self.step[users] / users

    def device(self, done: int, speed: float = 1.0) -> float:
        """Seconds of a device that is `speed` times as fast as the machine that was measured."""
        return ((STEPS - done) * self.step[1] + self.decode) / speed

    def bytes(self, point: Point) -> int:
        """What one picture sends over the link, both ways."""
        return self.request[point.variant] + self.handover[point.done] if point.done else 0

    def wait(self, point: Point, users: int, speed: float, mbit: float) -> float:
        """Seconds that a user waits for her picture, who shares the server's batch with `users` − 1 others."""
        return point.done * self.step[users] + 8e-6 * self.bytes(point) / mbit + self.device(point.done, speed)


def quickest(points: Sequence[Point], costs: Costs, users: int, speed: float, mbit: float) -> Point:
    """The split with the shortest wait among those that lose nothing that can be told from chance.

    These are the ones whose retrieval is not surely less and whose kernel distance not surely more than those of the personal
    model alone, and whose pictures are its pictures: they agree to `LIKE` at least.
    """
    fair = [p for p in points if p.lost.low <= 0 and p.farther.low <= 0 and p.agreement.mean >= LIKE]
    return min(fair, key=lambda point: costs.wait(point, users, speed, mbit))


def points_of(home: Home, federation: Federation, record: RoundRecord, generic: str) -> list[Point]:
    """Draw what is missing, and measure.

    Raises:
        InputError: the run's clients have no known styles, or styles that the pack does not know.
    """
    groups, early = dict[str, str](), dict[str, Model]()
    for c, who in record.clients.items():
        if who.group is not None and who.personal is not None and who.cluster is not None:
            groups[c], early[c] = who.group, ((1.0, record.clusters[who.cluster].adapter),)
    if not groups:
        raise InputError(f"run '{federation.name}' has no known styles; client files name them as `group`")
    real = real_features(sorted(set(groups.values())))
    common = {"base": str(base_folder(federation.base)), "base_digest": record.base, "precision": federation.precision}
    common |= {"pictures": PICTURES, "steps": STEPS, "guidance": GUIDANCE, "seed": federation.seed}
    waiting = {
        (*ALONE, c): scheduled(commit, DrawJob(**common, model=record.model_of(c), style=s, who=c), drawn) for c, s in groups.items()
    }
    for variant, done in splits():
        for c, style in groups.items():
            known = {"model": record.model_of(c), "style": style, "who": c, "early": early[c], "done": done}
            job = SplitJob(**common, **known, generic=generic if variant == "generic" else None)
            waiting[variant, done, c] = scheduled(commit, job, drawn_split)
    made: dict[tuple[Variant, int], dict[str, Manifest]] = defaultdict(dict)
    for (variant, done, c), result in waiting.items():
        made[variant, done][c] = result()
    features = {at: {c: features_of(home, [each]) for c, each in of.items()} for at, of in made.items()}
    far = {at: distances(of, groups, real) for at, of in features.items()}
    right = {at: [statistics.fmean(hand == groups[c] for hand in of[c].record["named"]) for c in groups] for at, of in made.items()}
    return [
        Point(
            *at,
            kid=statistics.fmean(far[at]),
            farther=paired(far[at], far[ALONE], seed=federation.seed),
            retrieval=statistics.fmean(right[at]),
            lost=paired(right[ALONE], right[at], seed=federation.seed),
            agreement=bootstrap([statistics.fmean(agreement(of[c], features[ALONE][c], real)) for c in groups], seed=federation.seed),
        )
        for at, of in features.items()
    ]


def agreement(mine: "Features", theirs: "Features", real: "Mapping[str, Features]") -> list[float]:
    """The cosine of every picture's features to those of another one, both seen from the middle of all styles."""
    middle = np.mean([each.mean(axis=0) for each in real.values()], axis=0)
    a, b = mine - middle, theirs - middle
    cosines: list[float] = ((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).tolist()
    return cosines


def splits() -> list[tuple[Variant, int]]:
    """Both variants' split points; a prompt that counts for no step is no picture of it."""
    return [("own", done) for done in SPLITS if done] + [("generic", done) for done in SPLITS if 0 < done < STEPS]


def costs_of(home: Home, federation: Federation, record: RoundRecord) -> Costs:
    """Time a step of every batch size, one thread, the others quiet; and write the files that would travel."""
    import torch

    from data.handover import Handover, Request, write_handover, write_request
    from fedcore import sampling
    from fedcore.latents import decode
    from fedcore.prompts import encode

    torch.set_num_threads(1)
    base = base_of(home, federation.name, record)
    adapter = load_model(((1.0, record.clusters[min(record.clusters)].adapter),))
    step = {users: _step(base, adapter, users) for users in USERS}
    course = Course(STEPS, GUIDANCE)
    prompt = encode(base, ["a cat"]).prompts
    state = sampling.begin(base, course, [0])
    at = [time.perf_counter()]
    for _ in range(1 + REPEATS):
        decode(base, state.latents)
        at.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        request: dict[Variant, int] = {
            "own": write_request(file, base, Request(course, 0, prompt)),
            "generic": write_request(file, base, Request(course, 0, None)),
        }
        handover = {}
        for done in sorted(SPLITS):
            state = sampling.advance(base, course, state, prompt, sampling.alone(adapter), until=done)
            handover[done] = write_handover(file, base, Handover(course, 0, state, "0" * 64, 0))
    return Costs(step, _median(at), request, handover)


def _step(base: "BaseModel", adapter: "Adapter | None", users: int) -> float:
    """Seconds of one step of a batch."""
    from fedcore import sampling
    from fedcore.prompts import encode

    course = Course(STEPS, GUIDANCE)
    state, prompts = sampling.begin(base, course, range(users)), encode(base, ["a cat"]).prompts.times(users)
    at: list[float] = []
    plan = sampling.alone(adapter)
    sampling.advance(base, course, state, prompts, plan, until=2 + REPEATS, on_step=lambda _: at.append(time.perf_counter()))
    return _median(at)


def _median(at: Sequence[float]) -> float:
    """The middle one of the times between these moments, the first of which warms up."""
    return statistics.median(after - before for before, after in pairwise(at[1:]))


def markdown(points: Sequence[Point], costs: Costs) -> str:
    """All split points as a table."""
    users = " | ".join(f"server s, {n} user{'s' * (n > 1)}" for n in costs.step)
    quality = "KID ×1000 | more than alone [95 %] | retrieval | less than alone [95 %] | agreement [95 %]"
    head = f"| prompt | server's steps | {quality} | {users} | device s | bytes |"
    lines = [head, "|---" * (9 + len(costs.step)) + "|"]
    for p in points:
        row = [
            p.variant if p.done else "–",
            f"{p.done} of {STEPS}",
            f"{1000 * p.kid:.0f}",
            _interval(p.farther, 1000, 1),
            f"{100 * p.retrieval:.0f} %",
        ]
        row += [_interval(p.lost, 100, 1, " %"), _interval(p.agreement, 1, 2)]
        row += [f"{costs.server(p.done, n):.3f}" for n in costs.step]
        row += [f"{costs.device(p.done):.3f}", f"{costs.bytes(p):,}"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _interval(of: Interval, times: float, digits: int, unit: str = "") -> str:
    mean, low, high = (f"{times * value:.{digits}f}" for value in (of.mean, of.low, of.high))
    return f"{mean} [{low}, {high}]{unit}"
