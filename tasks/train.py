"""Train: on the client's side, the adapter it was sent is fine-tuned on its own pictures; the new adapter and an echo leave."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean
from typing import ClassVar

from prefect import task

from data.checkpoints import Checkpoint
from data.home import Home
from data.records import CURVE
from data.store import Ref
from fedcore.adapters import Adapter, Factor, Transport
from fedcore.aggregation import Trains
from fedcore.config import PersonalConfig, TrainingConfig
from fedcore.errors import ConfigError
from tasks._client import Outcome, run_clients
from tasks._stage import STAGE, ClientJob, Made

SAVE_EVERY = 20  # steps between two checkpoints of local training


class TrainJob(ClientJob):
    """`start` is the adapter the client was sent, `beside` what stands frozen beside it, `own` what the client kept of an earlier round.

    `trains` names the factors that move, `hands` the only one that is handed over for aggregation (None: both). In its `first`
    round a client begins with an adapter of its own, where it has one.
    """

    stage: ClassVar[str] = "train"
    stage_version: ClassVar[int] = 4

    start: Ref
    beside: tuple[Ref, ...] = ()
    own: Ref | None = None
    trains: Trains = "ab"
    hands: Factor | None = None
    transport: Transport
    settings: TrainingConfig
    personal: PersonalConfig
    round: int
    first: bool
    seed: int


def curve(losses: Sequence[float]) -> list[float]:
    """The losses of all steps as at most `CURVE` points, each the mean of (to one) equally many."""
    cuts = [i * len(losses) // min(CURVE, len(losses)) for i in range(min(CURVE, len(losses)) + 1)]
    return [fmean(losses[a:b]) for a, b in pairwise(cuts)]


def compute(job: TrainJob) -> Made:
    """`adapter` for aggregation and, where it is another, `personal` for the client itself; in the record the echo of what was loaded."""
    from data.clients import load_enrolled
    from data.encoded import examples
    from fedcore import adapters
    from fedcore.personal import beginning, settings_of
    from fedcore.seeds import derive
    from fedcore.training import train as fine_tune

    client, base, store = load_enrolled(job.client, job.data), job.open_base(), Home.current().server()
    pictures = examples(client, base, home=Home.current())["train"]
    sent = adapters.from_bytes(store.get(job.start))
    if client.adapter is not None and job.first:
        if job.trains != "ab" or job.hands is not None:
            raise ConfigError("an adapter to begin with needs an aggregation.method that trains both factors in every round")
        sent = adapters.begun_with(adapters.from_bytes(client.adapter), sent, seed=job.seed)
    beside = [adapters.from_bytes(store.get(ref)) for ref in job.beside]
    own = None if job.own is None else adapters.from_bytes(store.get(job.own))
    seed, private = derive(job.seed, "train", job.round, job.client), Home.current().private(job.client)
    unfinished = Checkpoint(private, job.key(), "shared")
    trained = fine_tune(
        base, pictures, joined(sent, own, job.hands) if job.trains == "ab" else sent, job.settings.settings(),
        seed=seed, trains=job.trains, beside=adapters.summed(beside) if beside else None,
        state=unfinished.read(), save_every=SAVE_EVERY, save=unfinished.write,
    )  # fmt: skip
    personal = trained.adapter
    if job.personal.trains:
        begun = beginning(job.personal, sent, trained.adapter, own, beside, seed=seed)
        unfinished = Checkpoint(private, job.key(), "personal")
        personal = fine_tune(
            base, pictures, begun.start, settings_of(job.personal, job.settings.settings()),
            seed=derive(seed, "personal"), beside=begun.beside, anchor=begun.anchor,
            state=unfinished.read(), save_every=SAVE_EVERY, save=unfinished.write,
        ).adapter  # fmt: skip
    blob = adapters.to_bytes(trained.adapter, only=job.hands, transport=job.transport)
    outputs = {"adapter": store.put(blob, "adapter", ".safetensors")}
    if job.hands is not None or job.personal.trains:
        outputs["personal"] = store.put(adapters.to_bytes(personal, transport=job.transport), "adapter", ".safetensors")
    record = {"echo": job.start.sha256, "round": job.round, "samples": len(pictures), "curve": curve(trained.losses)}
    return Made(outputs, record)


def joined(sent: Adapter, own: Adapter | None, shared: Factor | None) -> Adapter:
    """The adapter that a client was sent, with its own other factor where only one is ever shared (FedSA)."""
    if own is None or shared is None:
        return sent
    return {n: replace(layer, b=own[n].b) if shared == "a" else replace(layer, a=own[n].a) for n, layer in sent.items()}


@task(name="train", task_run_name="train {label}", **STAGE)
def train(jobs: Sequence[TrainJob], label: str, timeout: float) -> list[Outcome]:  # noqa: ARG001 the label is for people
    """One outcome a client."""
    return run_clients(compute, jobs, timeout)
