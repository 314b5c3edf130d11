"""Aggregate: the adapters of one cluster's members become the cluster's adapter, with the error against the exact mean."""

from typing import ClassVar

from prefect import task
from pydantic import BaseModel

from data.home import Home
from data.manifests import Manifest
from data.store import Ref
from fedcore.config import AggregationConfig
from tasks._dispatch import in_worker
from tasks._stage import STAGE, Job, Made, commit


class Member(BaseModel):
    """An accepted adapter and the number of pictures behind it."""

    adapter: Ref
    samples: int


class AggregateJob(Job):
    """`members` by client id."""

    stage: ClassVar[str] = "aggregate"

    members: dict[str, Member]
    settings: AggregationConfig


def compute(job: AggregateJob) -> Made:
    """The cluster's adapter; in the record, per layer, `‖D* − Δ‖/‖D*‖`, and its mean."""
    from fedcore import adapters
    from fedcore.aggregation import AGGREGATIONS, ideal, normalised

    want, store = job.settings, Home.current().server()
    members = [job.members[client] for client in sorted(job.members)]
    updates = [adapters.from_bytes(store.get(m.adapter)) for m in members]
    weights = normalised([m.samples for m in members])
    made = AGGREGATIONS[want.method](updates, weights, rank=want.rank, energy=want.energy)
    errors = adapters.relative_error(made.adapter, ideal(updates, weights))
    record = {
        "error": sum(errors.values()) / len(errors),
        "error_by_layer": errors,
        "discarded_by_layer": made.discarded,
        "rank": max(layer.rank for layer in made.adapter.values()),
    }
    return Made({"adapter": store.put(adapters.to_bytes(made.adapter), "adapter", ".safetensors")}, record)


@task(name="aggregate", task_run_name="aggregate {label}", retries=1, **STAGE)
def aggregate(job: AggregateJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """One cluster's adapter."""
    manifest: Manifest = in_worker(commit, job, compute)
    return manifest
