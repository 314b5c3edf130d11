"""Receive: on the server's side, every adapter a client handed over is checked before anything uses it; a bad one touches nobody else."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from prefect import task
from pydantic import BaseModel, ConfigDict, ValidationError

from data.home import Home
from data.records import TrainingRecord
from data.store import Ref
from fedcore.adapters import Factor, Transport
from fedcore.errors import RoundFailed
from tasks._client import Outcome
from tasks._dispatch import WorkerFailed, scheduled, workers
from tasks.train import TrainJob

if TYPE_CHECKING:
    from fedcore.adapters import Layer


class Expected(BaseModel):
    """What the server sent out, and what must come back.

    `samples` is the number of pictures that the client enrolled with, `before` the SHA-256 of what it handed over the round before.
    """

    model_config = ConfigDict(frozen=True)

    start: Ref
    hands: Factor | None
    private: bool
    transport: Transport
    rank: int
    round: int
    samples: int
    before: str | None = None

    @classmethod
    def of(cls, job: TrainJob, rank: int, samples: int, before: Ref | None) -> "Expected":
        """From the job that the client was given, its rank, its pictures and what it handed over the round before."""
        private = job.hands is not None or job.personal.trains
        given = {name: getattr(job, name) for name in ("start", "hands", "transport", "round")}
        return cls(**given, private=private, rank=rank, samples=samples, before=before.sha256 if before else None)


@lru_cache(maxsize=16)
def _start(ref: Ref, transport: Transport) -> tuple["dict[str, Layer]", bytes]:
    """What a client began with; clients of a cluster were sent the same."""
    from fedcore import adapters

    adapter = adapters.from_bytes(Home.current().server().get(ref))
    return adapter, adapters.to_bytes(adapter, transport=transport)


def refusal(outcome: Outcome, expected: Expected) -> str | None:
    """Why a training outcome cannot be used, or None."""
    if outcome.manifest is None or "adapter" not in outcome.manifest.outputs:
        return "handed over no adapter"
    return _untrue(outcome.manifest.record, expected) or _unusable(outcome.manifest.outputs, expected)


def _untrue(account: dict[str, Any], expected: Expected) -> str | None:
    """What is wrong with a client's account of its training."""
    try:
        record = TrainingRecord.model_validate(account)
    except ValidationError as error:
        return f"its account of the training is wrong at '{'.'.join(str(part) for part in error.errors()[0]['loc'])}'"
    if record.echo != expected.start.sha256:
        return f"trained from adapter {record.echo[:12]!r}, but was sent {expected.start.sha256[:12]}"
    if record.round != expected.round:
        return f"answers for round {record.round}, this is round {expected.round}"
    if record.samples != expected.samples:
        return f"reports {record.samples} pictures, enrolled with {expected.samples}"
    return None


def _unusable(outputs: dict[str, Ref], expected: Expected) -> str | None:
    """What is wrong with the adapters that a client handed over."""
    from fedcore import adapters
    from fedcore.errors import AdapterRefused, StoreError

    if ("personal" in outputs) != expected.private:
        return "handed over no personal adapter" if expected.private else "handed over an adapter that nobody asked for"
    if outputs["adapter"].sha256 == expected.before:
        return "handed over its adapter of the round before"
    store = Home.current().server()
    try:
        start, unmoved = _start(expected.start, expected.transport)
        shapes = {name: (layer.b.shape[0], layer.a.shape[1]) for name, layer in start.items()}
        width = adapters.DTYPES[expected.transport].itemsize
        largest = sum(width * expected.rank * (out + inputs) for out, inputs in shapes.values()) + 400 * len(shapes) + 100_000
        if (most := max(ref.bytes for ref in outputs.values())) > largest:
            return f"its adapter has {most:,} bytes, at most {largest:,} are possible at rank {expected.rank}"
        blob = store.get(outputs["adapter"])
        hands, transport = expected.hands, expected.transport
        if hands is None:
            adapter = adapters.from_bytes(blob, transport=transport)
        else:
            adapter = adapters.completed(blob, hands, start, transport=transport)
        adapters.check(adapter, start)
        if expected.private:
            adapters.check(adapters.from_bytes(store.get(outputs["personal"]), transport=transport), start)
    except (AdapterRefused, StoreError) as error:
        return str(error)
    return (
        "handed back the adapter it was sent: nothing was trained"
        if adapters.to_bytes(adapter, transport=expected.transport) == unmoved
        else None
    )


def checked(outcomes: Sequence[Outcome], expected: Sequence[Expected]) -> list[Outcome]:
    """The outcomes, those that cannot be used turned into `refused` with the reason."""
    out = []
    for outcome, wanted in zip(outcomes, expected, strict=True):
        reason = refusal(outcome, wanted) if outcome.status == "ok" else None
        out.append(outcome if reason is None else Outcome(client=outcome.client, status="refused", reason=reason))
    return out


@task(name="receive", task_run_name="receive {label}", retries=1)
def receive(outcomes: Sequence[Outcome], expected: Sequence[Expected], label: str) -> list[Outcome]:
    """Check what all clients of a round handed over."""
    size = max(1, math.ceil(len(outcomes) / workers()))
    parts = [scheduled(checked, outcomes[i : i + size], expected[i : i + size]) for i in range(0, len(outcomes), size)]
    try:
        return [outcome for part in parts for outcome in part()]
    except WorkerFailed as error:
        raise RoundFailed(f"receive {label}: {error}; is memory short? `fedcore resume` goes on from here") from None
