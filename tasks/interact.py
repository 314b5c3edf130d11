"""Interact: clusters take a share of each other's adapters; base, cluster adapters and router together are the global bank."""

import json
from typing import ClassVar

from prefect import task
from pydantic import Field

from data.home import Home
from data.manifests import Manifest
from data.store import Ref
from fedcore.adapters import Split, Transport
from fedcore.config import InteractionConfig
from tasks._dispatch import in_worker
from tasks._stage import STAGE, Job, Made, commit


class InteractJob(Job):
    """`adapters` by cluster id (as text: JSON keys are); `own` is the share of the round.

    `resting` are the whole adapters of clusters of which nobody took part: others learn from them, they stay as they are.
    `split`, `head` and `rank` say what form a cluster's adapter must have; see `fedcore.interaction.exchanged`.
    """

    stage: ClassVar[str] = "interact"
    stage_version: ClassVar[int] = 4

    clusters: Ref
    adapters: dict[str, Ref]
    resting: dict[str, Ref] = Field(default_factory=dict)
    settings: InteractionConfig
    own: float
    split: Split
    head: int
    rank: int
    transport: Transport


def compute(job: InteractJob) -> Made:
    """By cluster its whole adapter (`cluster-0`), the part that its clients train (`own-0`) and what stands beside it (`beside-0`).

    `bank` is the global bank's index: adapters' hashes, centroids, temperature.
    In the record the weights, averaged over layers, and by cluster: its rank, and the share of ‖Δ‖²_F that was cut off.
    """
    import torch

    from fedcore import adapters
    from fedcore.interaction import INTERACTIONS, exchanged

    want, store = job.settings, Home.current().server()
    every = {**job.adapters, **job.resting}
    ids = sorted(int(c) for c in every)
    centroids = {int(i): v for i, v in json.loads(store.get(job.clusters))["centroids"].items()}
    had = [adapters.from_bytes(store.get(every[str(i)])) for i in ids]
    stacked = torch.tensor([centroids[i] for i in ids], dtype=torch.float64)
    way = INTERACTIONS[want.method]
    weights = way.weigh(stacked, had, own=job.own, temperature=want.temperature)
    made = exchanged(had, weights, beside=way.beside, split=job.split, head=job.head, rank=job.rank)
    outputs = {f"cluster-{i}": ref for i, ref in job.resting.items()}
    ranks: dict[str, int] = {}
    for i, of in zip(ids, made, strict=True):
        if str(i) in job.resting:
            continue
        blobs, parts = {"own": adapters.to_bytes(of.own)}, [of.own]
        if of.beside:
            blobs["beside"] = adapters.to_bytes(of.beside, transport=job.transport)
            parts.append(adapters.from_bytes(blobs["beside"]))  # as clients will have it
        whole = adapters.summed(parts)
        ranks[str(i)] = max(layer.rank for layer in whole.values())
        blobs["cluster"] = adapters.to_bytes(whole)
        outputs |= {f"{part}-{i}": store.put(blob, "adapter", ".safetensors") for part, blob in blobs.items()}
    index = {
        "adapters": {i: outputs[f"cluster-{i}"].sha256 for i in ids},
        "centroids": {i: centroids[i] for i in ids},
        "temperature": want.router_temperature,
    }
    outputs["bank"] = store.put(json.dumps(index, sort_keys=True).encode(), "bank", ".json")
    discarded = {str(i): of.discarded for i, of in zip(ids, made, strict=True) if str(i) not in job.resting}
    mean = torch.stack(list(weights.values())).mean(dim=0)
    return Made(outputs, {"weights": mean.tolist(), "clusters": ids, "rank": ranks, "discarded": discarded})


@task(name="interact", task_run_name="interact {label}", retries=1, **STAGE)
def interact(job: InteractJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """The clusters' adapters after the exchange, and the global bank."""
    manifest: Manifest = in_worker(commit, job, compute)
    return manifest
