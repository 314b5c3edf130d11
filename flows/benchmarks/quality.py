"""What a cell's models are worth beyond held-out pictures: other subjects, the base's styles, and pictures that they draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from data.base.folder import base_folder
from data.emoji.benchmark import USERS, reserved
from data.emoji.pack import drawings, pixels
from data.home import Home
from data.manifests import Manifest
from data.records import RoundRecord
from fedcore.config import Federation
from fedcore.errors import InputError
from fedcore.statistics import Interval, bootstrap, kernel_distance
from tasks._dispatch import scheduled
from tasks._stage import commit
from tasks.assess import AssessJob, DrawJob, assessed, drawn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Features = NDArray[np.float64]

PICTURES, STEPS, GUIDANCE = 12, 12, 3.0
"""Of every client and every hybrid: how many, and how they are drawn."""


@dataclass(frozen=True)
class Quality:
    """Means over clients, for hybrids over pairs of styles, and so are the intervals: pictures of one model are not independent.

    `other_subjects` is the personal models' loss on reserved pictures of their styles, `base_styles` that on the base's own
    (what was forgotten shows there). `kid` is the kernel distance of each personal model's pictures from its style's real
    ones, `retrieval` the share of them that the judge takes for the user's style. `hybrid` is the similarity of a hybrid's
    pictures to that of its two styles which it resembles less.
    """

    other_subjects: float
    base_styles: float
    kid: Interval
    retrieval: float
    hybrid: Interval


def quality(home: Home, federation: Federation, record: RoundRecord) -> Quality:
    """Compute what is missing of a finished round's assessment.

    Raises:
        WorkerFailed: a worker process died.
    """
    common = {
        "base": str(base_folder(federation.base)),
        "base_digest": record.base,
        "precision": federation.precision,
        "steps": STEPS,
        "guidance": GUIDANCE,
    }
    common |= {"pictures": PICTURES, "seed": federation.seed}
    clients = {c: who.group for c, who in record.clients.items() if who.personal is not None and who.group is not None}
    timesteps = federation.evaluation.timesteps
    personal = {c: AssessJob(**common, model=record.model_of(c), style=group, who=c, timesteps=timesteps) for c, group in clients.items()}
    of = {style: speaker(record, style) for style in USERS}
    hybrids: dict[tuple[str, str, str], DrawJob] = {}
    for first, second in combinations(USERS, 2):
        halves = tuple((0.5, record.clusters[of[style]].adapter) for style in (first, second))
        for subjects in (first, second):
            hybrids[first, second, subjects] = DrawJob(**common, model=halves, style=subjects)
    waiting = {c: scheduled(commit, job, assessed) for c, job in personal.items()}
    mixing = {pair: scheduled(commit, job, drawn) for pair, job in hybrids.items()}
    assessments = {c: result() for c, result in waiting.items()}
    mixtures = {pair: result() for pair, result in mixing.items()}
    real = real_features()
    made = {c: features_of(home, [assessment]) for c, assessment in assessments.items()}
    by_pair = {pair: features_of(home, [mixtures[*pair, style] for style in pair]) for pair in combinations(USERS, 2)}
    return Quality(
        other_subjects=_mean([m.record["style"] for m in assessments.values()]),
        base_styles=_mean([m.record["plain"] for m in assessments.values()]),
        kid=bootstrap(distances(made, clients, real), seed=federation.seed),
        retrieval=_mean([float(hand == group) for c, group in clients.items() for hand in assessments[c].record["named"]]),
        hybrid=similarity(by_pair, real, federation.seed),
    )


def speaker(record: RoundRecord, style: str) -> int:
    """The cluster where most clients of a style are, the lowest of equals: what knows the style best."""
    count = {i: sum(record.clients[c].group == style for c in cluster.members) for i, cluster in record.clusters.items()}
    return min(count, key=lambda i: (-count[i], i))


def real_features(styles: Sequence[str] = USERS) -> "dict[str, Features]":
    """Features of the drawings of each style that no client of the benchmark was trained on, nor the network that tells the features.

    Raises:
        InputError: the pack has no such style.
    """
    from data.base.features import load_features

    if unknown := sorted(set(styles) - set(USERS)):
        raise InputError(f"the emoji pack has no user style '{unknown[0]}'; it has {', '.join(USERS)}")
    of = {style: [*reserved(style), *(d for d in drawings(style) if d.unseen)] for style in styles}
    return {style: load_features().of(pixels([d.png for d in real])).double().numpy() for style, real in of.items()}


def distances(made: "Mapping[str, Features]", styles: Mapping[str, str], real: "Mapping[str, Features]") -> list[float]:
    """The kernel distance of what each user's model `made` from the real pictures of its style, in order of their names."""
    return [kernel_distance(made[user], real[styles[user]]) for user in sorted(made)]


def similarity(made: "Mapping[tuple[str, str], Features]", real: "Mapping[str, Features]", seed: int) -> Interval:
    """The mean over pairs of styles of the lesser similarity of a hybrid's pictures to one of the two styles."""
    return bootstrap([resemblance(features, pair, real) for pair, features in made.items()], seed=seed)


def resemblance(features: "Features", pair: tuple[str, str], real: "Mapping[str, Features]") -> float:
    """How much pictures resemble that of two styles which they resemble less, on average.

    A picture's similarity to a style is the cosine of its features to the mean of the style's real ones, both seen from the
    mean of all styles.
    """
    import numpy as np

    middle = np.mean([each.mean(axis=0) for each in real.values()], axis=0)
    first, second = (_unit(features - middle) @ _unit(real[style].mean(axis=0) - middle) for style in pair)
    return float(np.minimum(first, second).mean())


def _unit(vectors: "Features") -> "Features":
    import numpy as np

    unit: Features = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def features_of(home: Home, manifests: Sequence[Manifest]) -> "Features":
    """What several drawings' pictures look like, (pictures, 128)."""
    import numpy as np
    from safetensors.numpy import load

    return np.concatenate([load(home.server().get(m.outputs["features"]))["features"].astype(np.float64) for m in manifests])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
