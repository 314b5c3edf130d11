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
    """`clusters` are all clusters' adapters after the exchange, `cluster` is the client's own; `personal` its trained adapter."""

    stage: ClassVar[str] = "evaluate"

    clusters: dict[str, Ref]
    cluster: str
    personal: Ref


def losses(job: BaselineJob, candidates: Mapping[str, Ref | None]) -> dict[str, dict[str, float]]:
    """Mean loss of each candidate (None: the base) by split, on equal noise; choices are made on `tune`, `test` is only reported."""
    from data.base.load import load_exact
    from data.clients import load_enrolled
    from data.encoded import examples
    from fedcore import adapters
    from fedcore.evaluation import heldout_losses

    client, base, store = load_enrolled(job.client, job.data), load_exact(job.base, job.base_digest), Home.current().server()
    splits = examples(client, base, home=Home.current())
    found: dict[str, dict[str, float]] = {split: {} for split in ("tune", "test") if split in splits}
    for name, ref in candidates.items():
        adapter = None if ref is None else adapters.from_bytes(store.get(ref))
        for split, by_name in found.items():
            of = heldout_losses(base.unet, base.scheduler, splits[split], adapter, timesteps=job.timesteps, seed=job.seed)
            by_name[name] = of.mean().item()
    return found


def measure_base(job: BaselineJob) -> Made:
    """The base's losses by split."""
    return Made(record={split: {"base": of["base"]} for split, of in losses(job, {"base": None}).items()})


def measure(job: EvaluateJob) -> Made:
    """The losses of the client's personal adapter, of its cluster's, and the mean over the other clusters'."""
    candidates = {"personal": job.personal, **{f"cluster-{i}": ref for i, ref in sorted(job.clusters.items())}}
    record: dict[str, Any] = {}
    for split, of in losses(job, candidates).items():
        others = [of[f"cluster-{i}"] for i in sorted(job.clusters) if i != job.cluster]
        record[split] = {
            "cluster": of[f"cluster-{job.cluster}"],
            "other_cluster": sum(others) / len(others) if others else None,
            "personal": of["personal"],
        }
    return Made(record=record)


@task(name="baseline", task_run_name="baseline {label}", **STAGE)
def baseline(jobs: Sequence[BaselineJob], label: str, timeout: float) -> list[Outcome]:  # noqa: ARG001 the label is for people
    """One outcome a client."""
    return run_clients(measure_base, jobs, timeout)


@task(name="evaluate", task_run_name="evaluate {label}", **STAGE)
def evaluate(jobs: Sequence[EvaluateJob], label: str, timeout: float) -> list[Outcome]:  # noqa: ARG001 the label is for people
    """One outcome a client."""
    return run_clients(measure, jobs, timeout)
