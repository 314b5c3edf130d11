"""Cluster: group the clients by their wishes, by what their adapters learnt, or by their choice, with ids that stay the same."""

import json
from typing import TYPE_CHECKING, Any, ClassVar

from prefect import task
from pydantic import Field

from data.home import Home
from data.manifests import Manifest
from data.store import Ref
from fedcore.config import ClusteringConfig
from tasks._dispatch import in_worker
from tasks._members import Handed, Learnt
from tasks._stage import STAGE, Job, Made, commit

if TYPE_CHECKING:
    from fedcore.clustering import Alike, Clusters


class ClusterJob(Job):
    """`requirements` by client, of those that are away as well; `previous` are the clusters of the round before.

    `handed` are the round's adapters where these count, `alike` what was remembered of earlier ones; `choices` are the
    clusters that clients chose themselves.
    """

    stage: ClassVar[str] = "cluster"
    stage_version: ClassVar[int] = 7

    requirements: dict[str, Ref]
    previous: Ref | None
    settings: ClusteringConfig
    seed: int
    handed: dict[str, Handed] = Field(default_factory=dict)
    alike: Ref | None = None
    choices: dict[str, int] = Field(default_factory=dict)


def compute(job: ClusterJob) -> Made:
    """A JSON blob of members and centroids, and where adapters count how `alike` clients have been so far.

    In the record the members, the silhouette, and soft shares by client.
    """
    import numpy as np
    from safetensors.numpy import load

    from fedcore import clustering

    store, want = Home.current().server(), job.settings
    wishes = {c: load(store.get(ref))["requirement"].astype(np.float64) for c, ref in sorted(job.requirements.items())}
    before = None if job.previous is None else read_clusters(store.get(job.previous))
    outputs: dict[str, Ref] = {}
    if want.method == clustering.BY_LOSS:
        found = clustering.chosen(wishes, job.choices, before)
    else:
        alike = None
        if job.handed:
            now = clustering.cosines(clustering.gram(Learnt(job.handed)))
            alike = clustering.remembered(sorted(job.handed), now, None if job.alike is None else _alike(store.get(job.alike)))
            outputs["alike"] = store.put(_blob(alike), "alike", ".safetensors")
        found = clustering.cluster(
            wishes, k=None if want.k == "auto" else want.k, most=want.most, min_size=want.min_size, seed=job.seed, method=want.method,
            vectors=clustering.seen(want.on, wishes, alike.mean(sorted(wishes)) if alike else None), soft=want.soft, previous=before,
        )  # fmt: skip
    made: dict[str, Any] = {
        "members": found.members,
        "centroids": {i: v.tolist() for i, v in found.centroids.items()},
        "next_id": found.next_id,
    }
    blob = json.dumps(made, sort_keys=True).encode()
    members = {str(i): m for i, m in found.members.items()}
    shares = {c: {str(i): w for i, w in of.items()} for c, of in found.shares.items()}
    outputs["clusters"] = store.put(blob, "clusters", ".json")
    return Made(outputs, {"members": members, "silhouette": found.silhouette, "shares": shares})


def _blob(alike: "Alike") -> bytes:
    import numpy as np
    from safetensors.numpy import save

    names = np.frombuffer(json.dumps(alike.clients).encode(), dtype=np.uint8)
    blob: bytes = save({"clients": names, "sums": alike.sums, "counts": alike.counts})
    return blob


def _alike(blob: bytes) -> "Alike":
    from safetensors.numpy import load

    from fedcore.clustering import Alike

    found = load(blob)
    return Alike(tuple(json.loads(found["clients"].tobytes())), found["sums"], found["counts"])


def read_clusters(blob: bytes) -> "Clusters":
    """What this stage wrote."""
    import numpy as np

    from fedcore.clustering import Clusters

    old = json.loads(blob)
    centroids = {int(i): np.array(v) for i, v in old["centroids"].items()}
    return Clusters({int(i): m for i, m in old["members"].items()}, centroids, old["next_id"], None)


@task(name="cluster", task_run_name="cluster {label}", retries=1, **STAGE)
def cluster(job: ClusterJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """The clusters of a round."""
    manifest: Manifest = in_worker(commit, job, compute)
    return manifest
