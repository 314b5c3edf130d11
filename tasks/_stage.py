"""What all stages share: a job with a key, the manifest that commits it, and the Prefect task options that go with both."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from prefect.cache_policies import CacheKeyFnPolicy
from prefect.context import TaskRunContext
from pydantic import BaseModel as Model
from pydantic import ConfigDict

from data import manifests
from data.home import Home
from data.manifests import Manifest
from data.store import Ref, without_locations
from fedcore.base import Device, Precision

if TYPE_CHECKING:
    from fedcore.base import BaseModel

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "scikit-learn", "numpy", "pyarrow", "pillow")


class Job(Model):
    """Everything a stage needs to know: plain values and Refs. Equal jobs have equal keys on every machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: ClassVar[str]
    stage_version: ClassVar[int] = 1
    not_in_key: ClassVar[frozenset[str]] = frozenset()
    """Fields that say where things lie, not what they are."""

    def parameters(self) -> dict[str, Any]:
        """What the key is made of."""
        values = without_locations(self.model_dump(mode="json"))
        return {name: value for name, value in values.items() if name not in self.not_in_key}

    def key(self) -> str:
        """Hash of stage, stage version and parameters; inputs count by content."""
        what = [self.stage, self.stage_version, self.parameters()]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


J = TypeVar("J", bound=Job)


class BaseJob(Job):
    """A job that needs the base; `base_digest` names its weights."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"base", "device"})

    base: str
    base_digest: str
    precision: Precision = "fp32"
    device: Device = "auto"

    def open_base(self) -> "BaseModel":
        """The base, which stays open in this process.

        Raises:
            BaseModelError: it holds other weights here, or cannot be opened.
            InputError: there is no such device.
        """
        from data.base.load import load_exact

        return load_exact(self.base, self.base_digest, self.precision, self.device)


class ClientJob(BaseJob):
    """A job that runs on a client's side. `data` is the digest the client gave of itself."""

    stage_version: ClassVar[int] = 2

    client: str
    data: str


@dataclass
class Made:
    """What a stage's computation hands back: blobs by name, and a small record in JSON."""

    outputs: dict[str, Ref] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=1)
def libraries() -> dict[str, str]:
    """The versions that results depend on."""
    return {name: version(name) for name in LIBRARIES}


def finished(job: Job) -> Manifest | None:
    """The manifest of a job that is done, its blobs intact."""
    return manifests.read(Home.current().server(), job.stage, job.key())


def commit(job: J, compute: Callable[[J], Made]) -> Manifest:
    """Do the job unless it is done: compute, store blobs, then write the manifest, which makes it count."""
    done = finished(job)
    if done is not None:
        return done
    import torch

    from fedcore.training import enough_memory

    began = time.monotonic()
    with enough_memory():
        made = compute(job)
    manifest = Manifest(
        stage=job.stage,
        version=job.stage_version,
        key=job.key(),
        parameters=job.parameters(),
        outputs=made.outputs,
        record=made.record,
        libraries=libraries(),
        threads=torch.get_num_threads(),
        seconds=time.monotonic() - began,
        finished=time.time(),
    )
    manifests.write(Home.current().server(), manifest)
    return manifest


def _cache_key(_context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """A task's key is its job's, or the hash of its jobs' keys."""
    jobs = parameters["jobs"] if "jobs" in parameters else [parameters["job"]]
    return group_key(jobs)


def group_key(jobs: Sequence[Job]) -> str:
    """One key for several jobs."""
    return jobs[0].key() if len(jobs) == 1 else hashlib.sha256("".join(job.key() for job in jobs).encode()).hexdigest()


STAGE: dict[str, Any] = {
    "persist_result": True,
    "result_serializer": "json",
    "cache_policy": CacheKeyFnPolicy(cache_key_fn=_cache_key),
}
"""Options of every stage's Prefect task: Prefect's cache follows the stage keys; the manifests stay the truth."""


def refresh(jobs: Sequence[Job]) -> bool:
    """Must Prefect's cached result be ignored? Yes where a manifest or a blob behind it is gone."""
    return any(finished(job) is None for job in jobs)
