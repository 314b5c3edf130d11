"""Evaluate: on the client's side, held-out losses of base, clusters' and personal adapters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from prefect import task

from data.home import Home
from data.records import Model
from data.store import Ref
from data.tables import Split
from fedcore.personal import SHARES, best_share
from tasks._client import Outcome, run_clients
from tasks._models import load_model
from tasks._stage import STAGE, ClientJob, Made

if TYPE_CHECKING:
    from fedcore.base import BaseModel
    from fedcore.training import Examples

HELD_OUT: tuple[Split, ...] = ("tune", "test")


class BaselineJob(ClientJob):
    """The base's own losses; they do not depend on the round."""

    stage: ClassVar[str] = "baseline"

    timesteps: int
    seed: int


class EvaluateJob(BaselineJob):
    """`clusters` are the adapters to measure by cluster id, `cluster` is the client's own among them.

    `personal` are the parts of its personal model, which are added up; where it is `mixed` with something of its cluster's
    adapter, the tuning pictures choose how much of both it holds.
    """

    stage: ClassVar[str] = "evaluate"
    stage_version: ClassVar[int] = 4

    clusters: dict[str, Ref]
    cluster: str
    personal: tuple[Ref, ...]
    mixed: tuple[Ref, ...] = ()

    def mixture(self, share: float) -> Model:
        """So much of the personal parts, and for the rest what they are mixed with."""
        parts = [(share, ref) for ref in self.personal] + [(1 - share, ref) for ref in self.mixed]
        return tuple(part for part in parts if part[0] > 0)


@dataclass(frozen=True)
class Measured:
    """A client's held-out pictures, to measure models on, on equal noise. Choices are made on `tune`, `test` is only reported."""

    job: BaselineJob
    base: "BaseModel"
    splits: "Mapping[Split, Examples]"

    @classmethod
    def of(cls, job: BaselineJob) -> "Measured":
        """Those splits that the client has."""
        from data.clients import load_enrolled
        from data.encoded import examples

        client, base = load_enrolled(job.client, job.data), job.open_base()
        found = examples(client, base, home=Home.current())
        return cls(job, base, {split: found[split] for split in HELD_OUT if split in found})

    def losses(self, models: Mapping[str, Model], wanted: Sequence[Split] = HELD_OUT) -> dict[str, dict[str, float]]:
        """Mean loss of each model by split, of those `wanted`."""
        from fedcore.evaluation import heldout_losses

        chosen = {split: self.splits[split] for split in wanted if split in self.splits}
        found: dict[str, dict[str, float]] = {split: {} for split in chosen}
        fixed = {"timesteps": self.job.timesteps, "seed": self.job.seed}
        for name, model in models.items():
            adapter = load_model(model)
            for split, examples in chosen.items():
                found[split][name] = heldout_losses(self.base, examples, adapter, **fixed).mean().item()
        return found


def measure_base(job: BaselineJob) -> Made:
    """The base's losses by split."""
    return Made(record=dict(Measured.of(job).losses({"base": ()})))


def measure(job: EvaluateJob) -> Made:
    """The losses of the client's personal model, of its cluster's adapter, and the mean over the other clusters', by split.

    `by_cluster` are the losses of all of them on the tuning pictures: by these a client may choose. `share` is what its
    personal model holds of its own parts.
    """
    pictures = Measured.of(job)
    found = pictures.losses({f"cluster-{i}": ((1.0, ref),) for i, ref in sorted(job.clusters.items())})
    share = 1.0
    if job.mixed:
        tried = pictures.losses({str(s): job.mixture(s) for s in SHARES}, ["tune"]).get("tune", {})
        share = best_share({float(s): loss for s, loss in tried.items()})
    personal = pictures.losses({"personal": job.mixture(share)})
    record: dict[str, Any] = {}
    for split, of in found.items():
        others = [of[f"cluster-{i}"] for i in sorted(job.clusters) if i != job.cluster]
        record[split] = {
            "cluster": of[f"cluster-{job.cluster}"],
            "other_cluster": sum(others) / len(others) if others else None,
            **personal[split],
        }
    by_cluster = {i: found["tune"][f"cluster-{i}"] for i in sorted(job.clusters)} if "tune" in found else {}
    return Made(record={**record, "by_cluster": by_cluster, "share": share})


@task(name="baseline", task_run_name="baseline {label}", **STAGE)
def baseline(jobs: Sequence[BaselineJob], label: str, timeout: float) -> list[Outcome]:  # noqa: ARG001 the label is for people
    """One outcome a client."""
    return run_clients(measure_base, jobs, timeout)


@task(name="evaluate", task_run_name="evaluate {label}", **STAGE)
def evaluate(jobs: Sequence[EvaluateJob], label: str, timeout: float) -> list[Outcome]:  # noqa: ARG001 the label is for people
    """One outcome a client."""
    return run_clients(measure, jobs, timeout)
