"""Gallery: on the server's side, pictures for its own prompts by the base, by every cluster, and by the router's hybrids."""

import io
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

from prefect import task

from data.home import Home
from data.manifests import Manifest
from data.store import Ref
from fedcore.config import EvaluationConfig
from fedcore.errors import FedcoreError
from tasks._client import Outcome
from tasks._dispatch import WorkerFailed, in_worker
from tasks._models import load_bank
from tasks._stage import STAGE, BaseJob, Made, commit

if TYPE_CHECKING:
    from fedcore.interaction import Bank


class GalleryJob(BaseJob):
    """`clusters` are the adapters by cluster id, `bank` is the index that `interact` left."""

    stage: ClassVar[str] = "gallery"
    stage_version: ClassVar[int] = 3

    clusters: dict[str, Ref]
    bank: Ref
    settings: EvaluationConfig
    seed: int


def rows_of(bank: "Bank", hybrids: int) -> dict[str, Any]:
    """The gallery's rows: base, clusters, and what the router makes of a wish halfway between two clusters (most unlike pairs first)."""
    from fedcore.interaction import mixed, route

    rows: dict[str, Any] = {"base": None, **{f"cluster {i}": adapter for i, adapter in sorted(bank.adapters.items())}}
    centroids = dict(zip(sorted(bank.adapters), bank.centroids, strict=True))
    pairs = sorted(combinations(centroids, 2), key=lambda pair: (float(centroids[pair[0]] @ centroids[pair[1]]), pair))
    for first, second in pairs[:hybrids]:
        rows[f"{first} + {second}"] = mixed(bank.adapters, route(bank, centroids[first] + centroids[second]))
    return rows


def paint(job: GalleryJob) -> Made:
    """`gallery` (PNG: a row per model, a column per prompt); in the record, what style each picture is taken for."""
    from data.base.judge import load_judge
    from data.gallery import gallery
    from fedcore.course import Course
    from fedcore.generation import generate
    from fedcore.prompts import encode
    from fedcore.sampling import alone
    from fedcore.seeds import derive

    base, store, want = job.open_base(), Home.current().server(), job.settings
    prompts = encode(base, want.prompts).prompts
    seeds = [derive(job.seed, "gallery", column) for column in range(len(want.prompts))]
    judge, course = load_judge(), Course(want.steps, want.guidance)
    pictures, styles = {}, {}
    for name, adapter in rows_of(load_bank(store, job.clusters, job.bank), want.hybrids).items():
        pictures[name] = generate(base, course, prompts, alone(adapter), seeds=seeds)
        styles[name] = judge.name(pictures[name]) if pictures[name].shape[2:] == (64, 64) else None
    out = io.BytesIO()
    gallery(pictures, want.prompts).save(out, "PNG")
    return Made({"gallery": store.put(out.getvalue(), "gallery", ".png")}, {"styles": styles})


@task(name="gallery", task_run_name="gallery {label}", retries=1, **STAGE)
def paint_gallery(job: GalleryJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """The round's gallery."""
    manifest: Manifest = in_worker(commit, job, paint)
    return manifest


def paint_elsewhere(job: GalleryJob, timeout: float) -> Outcome:
    """The same where a pool's worker runs it."""
    try:
        return Outcome(client=GalleryJob.stage, status="ok", manifest=in_worker(commit, job, paint, timeout=timeout))
    except (FedcoreError, WorkerFailed) as error:
        return Outcome(client=GalleryJob.stage, status="failed", reason=str(error))
