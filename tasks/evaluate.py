"""Evaluate: on the client's side, held-out losses of base, clusters' and personal adapters."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from prefect import task

from data.home import Home
from data.store import Ref
from tasks._client import Outcome, run_clients
from tasks._stage import STAGE, ClientJob, Made


class BaselineJob(ClientJob):
    """The base's own losses; they do not depend on the round."""

    stage: ClassVar[str] = "baseline"

    timesteps: int
    seed: int


class EvaluateJob(BaselineJob):
    """`clusters` are the adapters to measure by cluster id, `cluster` is the client's own among them.

    `personal` are the parts of its personal model, which are added up.
    """

    stage: ClassVar[str] = "evaluate"
    stage_version: ClassVar[int] = 3

    clusters: dict[str, Ref]
    cluster: str
    personal: tuple[Ref, ...]


def losses(job: BaselineJob, candidates: Mapping[str, Sequence[Ref]]) -> dict[str, dict[str, float]]:
    """Mean loss of each candidate, the sum of its parts (none: the base), by split, on equal noise.

    Choices are made on `tune`, `test` is only reported.
    """
    from data.base.load import load_exact
    from data.clients import load_enrolled
    from data.encoded import examples
    from fedcore import adapters
    from fedcore.evaluation import heldout_losses

    client, base, store = load_enrolled(job.client, job.data), load_exact(job.base, job.base_digest), Home.current().server()
    splits = examples(client, base, home=Home.current())
    found: dict[str, dict[str, float]] = {split: {} for split in ("tune", "test") if split in splits}
    for name, parts in candidates.items():
        adapter = adapters.summed([adapters.from_bytes(store.get(ref)) for ref in parts]) if parts else None
        for split, by_name in found.items():
            of = heldout_losses(base.unet, base.scheduler, splits[split], adapter, timesteps=job.timesteps, seed=job.seed)
            by_name[name] = of.mean().item()
    return found


def measure_base(job: BaselineJob) -> Made:
    """The base's losses by split."""
    return Made(record={split: {"base": of["base"]} for split, of in losses(job, {"base": ()}).items()})


def measure(job: EvaluateJob) -> Made:
    """The losses of the client's personal model, of its cluster's adapter, and the mean over the other clusters', by split.

    `by_cluster` are the losses of all of them on the tuning pictures: by these a client may choose.
    """
    candidates = {"personal": job.personal, **{f"cluster-{i}": (ref,) for i, ref in sorted(job.clusters.items())}}
    found = losses(job, candidates)
    record: dict[str, Any] = {}
    for split, of in found.items():
        others = [of[f"cluster-{i}"] for i in sorted(job.clusters) if i != job.cluster]
        record[split] = {
            "cluster": of[f"cluster-{job.cluster}"],
            "other_cluster": sum(others) / len(others) if others else None,
            "personal": of["personal"],
        }
    by_cluster = {i: found["tune"][f"cluster-{i}"] for i in sorted(job.clusters)} if "tune" in found else {}
    return Made(record={**record, "by_cluster": by_cluster})


@task(name="baseline", task_run_name="baseline {label}", **STAGE)
def baseline(jobs: Sequence[BaselineJob], label: str, timeout: float) -> list[Outcome]:  # noqa: ARG001 the label is for people
    """One outcome a client."""
    return run_clients(measure_base, jobs, timeout)


@task(name="evaluate", task_run_name="evaluate {label}", **STAGE)
def evaluate(jobs: Sequence[EvaluateJob], label: str, timeout: float) -> list[Outcome]:  # noqa: ARG001 the label is for people
    """One outcome a client."""
    return run_clients(measure, jobs, timeout)
