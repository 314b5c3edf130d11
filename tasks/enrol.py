"""Enrol: each client tells who it is, as a digest of its data, and what it can carry; this precedes every round and is never cached."""

from collections.abc import Sequence
from typing import Literal

from prefect import task
from pydantic import BaseModel, ConfigDict

from tasks._client import reason_of
from tasks._dispatch import WorkerFailed, scheduled


class Enrolment(BaseModel):
    """`digest` changes when the client's statement, table or device does. `group` is a known true style, for research only."""

    model_config = ConfigDict(frozen=True)

    client: str
    status: Literal["ok", "failed"]
    reason: str | None = None
    digest: str = ""
    device: str = ""
    samples: int = 0
    group: str | None = None


class EnrolJob(BaseModel):
    """Who is asked."""

    model_config = ConfigDict(frozen=True)

    client: str


def compute(client: str) -> Enrolment:
    """Runs on the client's side."""
    from data.clients import load_client

    try:
        me = load_client(client)
    except Exception as error:  # noqa: BLE001 whatever a client's files do must not reach the others
        return Enrolment(client=client, status="failed", reason=reason_of(error, client, "enrol"))
    samples = sum(row.split == "train" for row in me.rows)
    return Enrolment(client=client, status="ok", digest=me.digest, device=me.device, samples=samples, group=me.group)


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
