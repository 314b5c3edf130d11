"""Cluster: group the clients by their requirement vectors, with ids that stay the same from round to round."""

import json
from typing import Any, ClassVar

from prefect import task

from data.home import Home
from data.manifests import Manifest
from data.store import Ref
from fedcore.config import ClusteringConfig
from tasks._dispatch import in_worker
from tasks._stage import STAGE, Job, Made, commit


class ClusterJob(Job):
    """`requirements` by client; `previous` the clusters of the round before."""

    stage: ClassVar[str] = "cluster"

    requirements: dict[str, Ref]
    previous: Ref | None
    settings: ClusteringConfig
    seed: int


def compute(job: ClusterJob) -> Made:
    """A JSON blob of members and centroids."""
    import numpy as np
    from safetensors.numpy import load

    from fedcore.clustering import Clusters
    from fedcore.clustering import cluster as group

    store = Home.current().server()
    vectors = {c: load(store.get(ref))["requirement"].astype(np.float64) for c, ref in sorted(job.requirements.items())}
    before = None
    if job.previous is not None:
        old = json.loads(store.get(job.previous))
        centroids = {int(i): np.array(v) for i, v in old["centroids"].items()}
        before = Clusters({int(i): m for i, m in old["members"].items()}, centroids, old["next_id"], None)
    want = job.settings
    k = None if want.k == "auto" else want.k
    found = group(vectors, k=k, most=want.most, min_size=want.min_size, seed=job.seed, previous=before)
    made: dict[str, Any] = {
        "members": found.members,
        "centroids": {i: v.tolist() for i, v in found.centroids.items()},
        "next_id": found.next_id,
    }
    blob = json.dumps(made, sort_keys=True).encode()
    members = {str(i): m for i, m in found.members.items()}
    return Made({"clusters": store.put(blob, "clusters", ".json")}, {"members": members, "silhouette": found.silhouette})


@task(name="cluster", task_run_name="cluster {label}", retries=1, **STAGE)
def cluster(job: ClusterJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """The clusters of a round."""
    manifest: Manifest = in_worker(commit, job, compute)
    return manifest
