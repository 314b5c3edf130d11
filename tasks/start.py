"""Start: what clients of one rank begin a round with: their cluster's adapter, divided for that rank; in the first round a fresh one.

Divide: the same of a round's own result, for those who mix it with what they made of the last one.
"""

from typing import ClassVar

from prefect import task

from data.home import Home
from data.manifests import Manifest
from data.store import Ref
from fedcore.adapters import Split, Transport
from tasks._dispatch import in_worker
from tasks._stage import STAGE, BaseJob, Made, commit


class StartJob(BaseJob):
    """`adapter` is a cluster's of the round before, None for a fresh one; see `fedcore.adapters.split`."""

    stage: ClassVar[str] = "start"
    stage_version: ClassVar[int] = 3

    target: str
    adapter: Ref | None
    split: Split
    rank: int
    scale: float
    transport: Transport
    seed: int


class DivideJob(StartJob):
    """What clients of one rank will begin the next round with."""

    stage: ClassVar[str] = "divide"


def compute(job: StartJob) -> Made:
    """`start`, and where something stands frozen beside it `tail`; in the record the share of ‖Δ‖²_F that is in neither."""
    from fedcore import adapters
    from fedcore.injection import initial, target_shapes

    store = Home.current().server()
    if job.adapter is None:
        shapes = target_shapes(job.open_base(), job.target)  # type: ignore[arg-type]
        begun = adapters.Beginning(initial(shapes, rank=job.rank, scale=job.scale, seed=job.seed), None, 0.0)
    else:
        begun = adapters.split(adapters.from_bytes(store.get(job.adapter)), job.rank, job.scale, job.split, seed=job.seed)
    outputs = {"start": store.put(adapters.to_bytes(begun.start, transport=job.transport), "adapter", ".safetensors")}
    if begun.tail is not None:
        outputs["tail"] = store.put(adapters.to_bytes(begun.tail, transport=job.transport), "adapter", ".safetensors")
    return Made(outputs, {"discarded": begun.discarded})


@task(name="start", task_run_name="start {label}", retries=1, **STAGE)
def start(job: StartJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """What clients of one rank begin with."""
    manifest: Manifest = in_worker(commit, job, compute)
    return manifest


@task(name="divide", task_run_name="divide {label}", retries=1, **STAGE)
def divide(job: DivideJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """What clients of one rank get of a round's result."""
    manifest: Manifest = in_worker(commit, job, compute)
    return manifest
