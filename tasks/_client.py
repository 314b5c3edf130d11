"""The border between the two sides: a client's computation runs on its side and comes back as a typed outcome, never as an exception."""

import logging
import re
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from data.home import Home
from data.manifests import Manifest
from fedcore.errors import FedcoreError
from tasks._dispatch import WorkerFailed, scheduled
from tasks._stage import ClientJob, Made, commit

log = logging.getLogger("tasks.client")
J = TypeVar("J", bound=ClientJob)
FOLDERS = re.compile(r"(?<![\w.])/(?:[^/:\n]+/)*")
"""The folders of an absolute path."""


MOST_WORDS = 500


def _plain(text: str) -> str:
    """A stranger's words, fit for terminals, tables and tags."""
    return "".join(c if c.isprintable() else " " for c in text)[:MOST_WORDS]


Words = Annotated[str, AfterValidator(_plain)]
"""Text that comes from a client's side: printable, not too long."""
Name = Annotated[str, AfterValidator(_plain), Field(max_length=64)]


class Outcome(BaseModel):
    """What the server learns of one client's part in one stage; there is a manifest exactly where the status is `ok`."""

    model_config = ConfigDict(frozen=True)

    client: Name
    status: Literal["ok", "failed", "refused"]
    reason: Words | None = None
    manifest: Manifest | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.manifest is not None) != (self.status == "ok"):
            raise ValueError("a manifest comes with the status 'ok', and only with it")
        return self


def client_side(compute: Callable[[J], Made], job: J) -> Outcome:
    """Runs in the client's worker."""
    try:
        return Outcome(client=job.client, status="ok", manifest=commit(job, compute).brief())
    except Exception as error:  # noqa: BLE001 whatever a client does must not reach the others
        return Outcome(client=job.client, status="failed", reason=reason_of(error, job.client, job.stage))


def reason_of(error: Exception, client: str, stage: str) -> str:
    """Why a client failed, in words that may leave its side: those of our own errors, which quote no data, without names of files.

    Other errors may quote anything: of them only the kind leaves, and the client's `errors.log` keeps the rest.
    """
    if isinstance(error, FedcoreError):
        return f"{type(error).__name__}: {FOLDERS.sub('', error.message)}"
    private = Home.current().private(client)
    with suppress(OSError):  # where nothing can be written, the outcome must come back all the same
        private.mkdir(parents=True, exist_ok=True)
        with (private / "errors.log").open("a") as file:
            file.write(f"{datetime.now(UTC).isoformat()} {stage}\n{''.join(traceback.format_exception(error))}\n")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}; the client's errors.log tells more"


def run_client(compute: Callable[[J], Made], job: J, timeout: float) -> Outcome:
    """The outcome of one job; if it hangs or kills its process, it fails alone."""
    return run_clients(compute, [job], timeout)[0]


def run_clients(compute: Callable[[J], Made], jobs: Sequence[J], timeout: float) -> list[Outcome]:
    """One outcome a job, in order; all wait for the workers together, so that these never wait for us."""
    waiting = [(job, scheduled(client_side, compute, job, timeout=timeout)) for job in jobs]
    return [_outcome(job, result) for job, result in waiting]


def _outcome(job: ClientJob, result: Callable[[], Outcome]) -> Outcome:
    """Wait for a job's outcome."""
    try:
        outcome = result()
    except WorkerFailed as error:
        outcome = Outcome(client=job.client, status="failed", reason=str(error))
    if outcome.status != "ok":
        log.warning("client %s %s: %s", outcome.client, outcome.status, outcome.reason)
    return outcome
