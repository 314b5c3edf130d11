"""Start: the fresh adapter that clients of one rank begin the first round with; the same for all of them."""

from typing import ClassVar

from prefect import task

from data.home import Home
from data.manifests import Manifest
from tasks._dispatch import in_worker
from tasks._stage import STAGE, Job, Made, commit


class StartJob(Job):
    """What the fresh adapter depends on."""

    stage: ClassVar[str] = "start"
    not_in_key: ClassVar[frozenset[str]] = frozenset({"base"})

    base: str
    base_digest: str
    target: str
    rank: int
    scale: float
    seed: int


def compute(job: StartJob) -> Made:
    """The fresh adapter as a blob."""
    from data.base.load import load_exact
    from fedcore import adapters
    from fedcore.injection import initial, target_shapes

    shapes = target_shapes(load_exact(job.base, job.base_digest).unet, job.target)  # type: ignore[arg-type]
    fresh = initial(shapes, rank=job.rank, scale=job.scale, seed=job.seed)
    return Made({"adapter": Home.current().server().put(adapters.to_bytes(fresh), "adapter", ".safetensors")})


@task(name="start", task_run_name="start {label}", retries=1, **STAGE)
def start(job: StartJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """The fresh adapter of one rank."""
    manifest: Manifest = in_worker(commit, job, compute)
    return manifest
