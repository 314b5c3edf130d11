"""Which way of mixing two styles gives pictures that resemble both: the compositions on every pair of a run's styles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from data.base.folder import base_folder
from data.home import Home
from data.records import Model, RoundRecord
from data.store import Ref
from fedcore.composition import COMPOSITIONS
from fedcore.config import Federation
from fedcore.errors import InputError
from fedcore.statistics import Interval, bootstrap, paired
from flows.benchmarks.quality import features_of, real_features, resemblance, speaker
from tasks._dispatch import scheduled
from tasks._stage import commit
from tasks.assess import DrawJob, drawn

if TYPE_CHECKING:
    from flows.benchmarks.quality import Features

PICTURES, STEPS, GUIDANCE = 12, 20, 3.0
"""For every pair of styles, of each one's subjects; and how they are drawn."""
SHOWN = 8


@dataclass(frozen=True)
class Way:
    """A composition: the lesser similarity of its pictures to their two styles, and how much more that is than with `sum`.

    Means over pairs of styles, with 95 % intervals over them; `passes` through the denoiser for each picture's step.
    """

    name: str
    least: Interval
    more: Interval
    passes: int


def hybrids(home: Home, federation: Federation, record: RoundRecord, out: Path) -> list[Way]:
    """Draw, measure, and leave a grid of pictures in `out`.

    Raises:
        InputError: the run's clients have no known styles, fewer than two of them, or styles that the pack does not know.
    """
    groups = sorted({who.group for who in record.clients.values() if who.group is not None})
    real = real_features(groups)
    if len(groups) < 2:
        raise InputError(f"run '{federation.name}' has no two known styles; client files name them as `group`")
    of = {style: record.clusters[speaker(record, style)].adapter for style in groups}
    common = {"base": str(base_folder(federation.base)), "base_digest": record.base, "precision": federation.precision}
    common |= {"pictures": PICTURES, "steps": STEPS, "guidance": GUIDANCE, "seed": federation.seed}
    pairs = list(combinations(groups, 2))

    def job(model: Model, style: str, compose: str) -> DrawJob:
        return DrawJob(**common, model=model, style=style, compose=compose)

    jobs = {
        (way, pair, subjects): job(tuple((0.5, of[style]) for style in pair), subjects, way)
        for way in COMPOSITIONS
        for pair in pairs
        for subjects in pair
    }
    shown = min(pairs, key=lambda pair: _between(real, pair))
    alone = {(style, shown[0]): job(((1.0, of[style]),), shown[0], "sum") for style in shown}
    waiting = {at: scheduled(commit, each, drawn) for at, each in {**jobs, **alone}.items()}
    made = {at: result() for at, result in waiting.items()}
    scores = {
        way: [resemblance(features_of(home, [made[way, pair, subjects] for subjects in pair]), pair, real) for pair in pairs]
        for way in COMPOSITIONS
    }
    rows = {f"{shown[0]} alone": made[shown[0], shown[0]], f"{shown[1]} alone": made[shown[1], shown[0]]}
    rows |= {way: made[way, shown, shown[0]] for way in COMPOSITIONS}
    _show(home, {name: manifest.outputs["pictures"] for name, manifest in rows.items()}, shown[0], out / "hybrids.png")
    return ways(scores, federation.seed)


def ways(scores: Mapping[str, Sequence[float]], seed: int) -> list[Way]:
    """The compositions, best first, from a score for each pair of styles."""
    found = [
        Way(name, bootstrap(each, seed=seed), paired(each, scores["sum"], seed=seed), 2 if name == "composite" else 1)
        for name, each in scores.items()
    ]
    return sorted(found, key=lambda way: -way.least.mean)


def _between(real: "Mapping[str, Features]", pair: tuple[str, str]) -> float:
    """How alike two styles are, seen from the middle of all."""
    return resemblance(real[pair[0]], (pair[1], pair[1]), real)


def _show(home: Home, pictures: Mapping[str, Ref], style: str, out: Path) -> None:
    from safetensors.torch import load

    from data.emoji.benchmark import reserved
    from data.gallery import gallery

    names = [d.names[0] for d in reserved(style)][:SHOWN]
    rows = {name: load(home.server().get(ref))["pictures"][:SHOWN] for name, ref in pictures.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    gallery(rows, names).save(out, "PNG")
