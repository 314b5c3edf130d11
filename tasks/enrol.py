"""Enrol: each client tells who it is, as a digest of its data, and what it can carry; this precedes every round and is never cached."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from prefect import task
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks._client import Name, Words, reason_of
from tasks._dispatch import WorkerFailed, scheduled

MOST_SAMPLES = 1_000_000
"""More pictures than any user has; they are a client's weight."""


class Enrolment(BaseModel):
    """`digest` changes when the client's statement, table or device does. `group` is a known true style, for research only."""

    model_config = ConfigDict(frozen=True)

    client: Name
    status: Literal["ok", "failed"]
    reason: Words | None = None
    digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    device: Name = ""
    samples: Annotated[int, Field(ge=0, le=MOST_SAMPLES)] = 0
    group: Name | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.status == "ok" and not (self.digest and self.samples):
            raise ValueError("who takes part names its data and has pictures")
        return self


class EnrolJob(BaseModel):
    """Who is asked."""

    model_config = ConfigDict(frozen=True)

    client: str


def compute(client: str) -> Enrolment:
    """Runs on the client's side."""
    from data.clients import load_client

    try:
        me = load_client(client)
        samples = sum(row.split == "train" for row in me.rows)
        return Enrolment(client=client, status="ok", digest=me.digest, device=me.device, samples=samples, group=me.group)
    except Exception as error:  # noqa: BLE001 whatever a client's files do must not reach the others
        return Enrolment(client=client, status="failed", reason=reason_of(error, client, "enrol"))


def enrol_client(job: EnrolJob, timeout: float) -> Enrolment:
    """One client's enrolment, within `timeout` seconds."""
    return enrol_clients([job], timeout)[0]


def enrol_clients(jobs: Sequence[EnrolJob], timeout: float) -> list[Enrolment]:
    """One enrolment a client, in order, side by side; within `timeout` seconds each."""
    out: list[Enrolment] = []
    for job, result in [(job, scheduled(compute, job.client, timeout=timeout)) for job in jobs]:
        try:
            out.append(result())
        except WorkerFailed as error:
            out.append(Enrolment(client=job.client, status="failed", reason=str(error)))
    return out


@task(name="enrol", task_run_name="enrol {label}")
def enrol(jobs: Sequence[EnrolJob], label: str, timeout: float) -> list[Enrolment]:  # noqa: ARG001 the label is for people
    """One enrolment a client."""
    return enrol_clients(jobs, timeout)
