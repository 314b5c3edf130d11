"""Assign: who was never in a cluster, or whose cluster is gone, starts from the adapter of the one that its wish is nearest to."""

from typing import ClassVar

from prefect import task

from data.home import Home
from data.manifests import Manifest
from data.store import Ref
from tasks._dispatch import in_worker
from tasks._stage import STAGE, Job, Made, commit
from tasks.cluster import read_clusters


class AssignJob(Job):
    """`requirements` of the newcomers by client; `clusters` those of the round before."""

    stage: ClassVar[str] = "assign"
    stage_version: ClassVar[int] = 2

    requirements: dict[str, Ref]
    clusters: Ref


def compute(job: AssignJob) -> Made:
    """In the record, each newcomer's cluster."""
    import numpy as np
    from safetensors.numpy import load

    from fedcore.clustering import nearest

    store = Home.current().server()
    clusters = read_clusters(store.get(job.clusters))
    vectors = {c: load(store.get(ref))["requirement"].astype(np.float64) for c, ref in sorted(job.requirements.items())}
    return Made(record={"cluster": {c: nearest(vector, clusters) for c, vector in vectors.items()}})


@task(name="assign", task_run_name="assign {label}", retries=1, **STAGE)
def assign(job: AssignJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """The newcomers' clusters."""
    manifest: Manifest = in_worker(commit, job, compute)
    return manifest
