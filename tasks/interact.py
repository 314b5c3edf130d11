"""Interact: clusters take a share of each other's adapters; base, cluster adapters and router together are the global bank."""

import json
from typing import ClassVar

from prefect import task

from data.home import Home
from data.manifests import Manifest
from data.store import Ref
from fedcore.config import InteractionConfig
from tasks._dispatch import in_worker
from tasks._stage import STAGE, Job, Made, commit


class InteractJob(Job):
    """`adapters` by cluster id (as text: JSON keys are); mixed adapters are cut to `rank`."""

    stage: ClassVar[str] = "interact"
    stage_version: ClassVar[int] = 2

    clusters: Ref
    adapters: dict[str, Ref]
    settings: InteractionConfig
    rank: int


def compute(job: InteractJob) -> Made:
    """One mixed adapter per cluster (`cluster-<id>`) and the bank's index (`bank`): adapters' hashes, centroids, temperature.

    In the record, by cluster: its rank, and the share of ‖Δ‖²_F that cutting to `rank` discarded.
    """
    import torch

    from fedcore import adapters
    from fedcore.interaction import INTERACTIONS, mixed

    want, store = job.settings, Home.current().server()
    ids = sorted(int(c) for c in job.adapters)
    centroids = {int(i): v for i, v in json.loads(store.get(job.clusters))["centroids"].items()}
    own = {i: adapters.from_bytes(store.get(job.adapters[str(i)])) for i in ids}
    stacked = torch.tensor([centroids[i] for i in ids], dtype=torch.float64)
    weights = INTERACTIONS[want.method](stacked, own=want.own, temperature=want.temperature)
    outputs: dict[str, Ref] = {}
    ranks: dict[str, int] = {}
    discarded: dict[str, float] = {}
    for row, i in enumerate(ids):
        whole = mixed(own, {j: float(weights[row, column]) for column, j in enumerate(ids)})
        made, discarded[str(i)] = adapters.cut(whole, job.rank)
        outputs[f"cluster-{i}"] = store.put(adapters.to_bytes(made), "adapter", ".safetensors")
        ranks[str(i)] = max(layer.rank for layer in made.values())
    index = {
        "adapters": {i: outputs[f"cluster-{i}"].sha256 for i in ids},
        "centroids": {i: centroids[i] for i in ids},
        "temperature": want.router_temperature,
    }
    outputs["bank"] = store.put(json.dumps(index, sort_keys=True).encode(), "bank", ".json")
    return Made(outputs, {"weights": weights.tolist(), "clusters": ids, "rank": ranks, "discarded": discarded})


@task(name="interact", task_run_name="interact {label}", retries=1, **STAGE)
def interact(job: InteractJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """The clusters' adapters after the exchange, and the global bank."""
    manifest: Manifest = in_worker(commit, job, compute)
    return manifest
