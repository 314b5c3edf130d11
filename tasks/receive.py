"""Receive: on the server's side, every adapter a client handed over is checked before anything uses it; a bad one touches nobody else."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from prefect import task
from pydantic import BaseModel, ConfigDict, ValidationError

from data.home import Home
from data.records import TrainingRecord
from data.store import Ref
from fedcore.errors import RoundFailed
from tasks._client import Outcome
from tasks._dispatch import WorkerFailed, scheduled, workers
from tasks.train import TrainJob

if TYPE_CHECKING:
    from fedcore.adapters import Shapes


class Expected(BaseModel):
    """What the server sent out, and what must come back.

    `samples` is the number of pictures that the client enrolled with, `before` the SHA-256 of its adapter of the round before.
    """

    model_config = ConfigDict(frozen=True)

    start: Ref
    rank: int
    scale: float
    target: str
    base: str
    round: int
    seed: int
    samples: int
    before: str | None = None

    @classmethod
    def of(cls, job: TrainJob, target: str, samples: int, before: Ref | None) -> "Expected":
        """From the job that the client was given, its pictures and its adapter of the round before."""
        given = {name: getattr(job, name) for name in ("start", "rank", "scale", "base", "round", "seed")}
        return cls(**given, target=target, samples=samples, before=before.sha256 if before else None)


@lru_cache(maxsize=4)
def _shapes(base: str, target: str) -> "Shapes":
    """(out, in) of each layer to adapt."""
    from data.base.load import load_base
    from fedcore.injection import target_shapes

    return target_shapes(load_base(base).unet, target)  # type: ignore[arg-type]


@lru_cache(maxsize=16)
def _unmoved(start: Ref, rank: int, scale: float, seed: int) -> bytes:
    """What a client that trained nothing would hand back; clients of a cluster were sent the same."""
    from fedcore import adapters

    began, _ = adapters.fitted(adapters.from_bytes(Home.current().server().get(start)), rank, scale, seed=seed)
    return adapters.to_bytes(began)


def refusal(outcome: Outcome, expected: Expected) -> str | None:
    """Why a training outcome cannot be used, or None."""
    from fedcore import adapters
    from fedcore.errors import AdapterRefused, StoreError

    if outcome.manifest is None or "adapter" not in outcome.manifest.outputs:
        return "handed over no adapter"
    try:
        record = TrainingRecord.model_validate(outcome.manifest.record)
    except ValidationError as error:
        return f"its account of the training is wrong at '{'.'.join(str(part) for part in error.errors()[0]['loc'])}'"
    if record.echo != expected.start.sha256:
        return f"trained from adapter {record.echo[:12]!r}, but was sent {expected.start.sha256[:12]}"
    if record.round != expected.round:
        return f"answers for round {record.round}, this is round {expected.round}"
    if record.samples != expected.samples:
        return f"reports {record.samples} pictures, enrolled with {expected.samples}"
    store, shapes = Home.current().server(), _shapes(expected.base, expected.target)
    ref = outcome.manifest.outputs["adapter"]
    if ref.sha256 == expected.before:
        return "handed over its adapter of the round before"
    largest = sum(4 * expected.rank * (out + inputs) for out, inputs in shapes.values()) + 400 * len(shapes) + 100_000
    if ref.bytes > largest:
        return f"its adapter has {ref.bytes:,} bytes, at most {largest:,} are possible at rank {expected.rank}"
    try:
        adapter = adapters.from_bytes(store.get(ref))
        adapters.check(adapter, shapes, rank=expected.rank)
        unmoved = _unmoved(expected.start, expected.rank, expected.scale, expected.seed)
    except (AdapterRefused, StoreError) as error:
        return str(error)
    if adapters.to_bytes(adapter) == unmoved:
        return "handed back the adapter it was sent: nothing was trained"
    return None


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
