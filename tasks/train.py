"""Train: on the client's side, the adapter it was sent is fine-tuned on its own pictures; the new adapter and an echo leave."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import ClassVar

from prefect import task

from data.checkpoints import Checkpoint
from data.home import Home
from data.records import CURVE
from data.store import Ref
from fedcore.config import TrainingConfig
from tasks._client import Outcome, run_clients
from tasks._stage import STAGE, ClientJob, Made

SAVE_EVERY = 20  # steps between two checkpoints of local training


class TrainJob(ClientJob):
    """`start` is the adapter the client was sent; `rank` and `scale` the client's own."""

    stage: ClassVar[str] = "train"

    start: Ref
    rank: int
    scale: float
    settings: TrainingConfig
    timesteps: int
    round: int
    seed: int


def curve(losses: Sequence[float]) -> list[float]:
    """The losses of all steps as at most `CURVE` points, each the mean of (to one) equally many."""
    cuts = [i * len(losses) // min(CURVE, len(losses)) for i in range(min(CURVE, len(losses)) + 1)]
    return [fmean(losses[a:b]) for a, b in pairwise(cuts)]


def compute(job: TrainJob) -> Made:
    """The trained adapter as a blob; in the record the echo of what was loaded, and the tuning split's loss before and after."""
    from data.base.load import load_exact
    from data.clients import load_enrolled
    from data.encoded import examples
    from fedcore import adapters
    from fedcore.evaluation import heldout_losses
    from fedcore.seeds import derive
    from fedcore.training import train as fine_tune

    client, base, store = load_enrolled(job.client, job.data), load_exact(job.base, job.base_digest), Home.current().server()
    splits = examples(client, base, home=Home.current())
    sent = adapters.from_bytes(store.get(job.start))
    start, discarded = adapters.fitted(sent, job.rank, job.scale, seed=job.seed)
    seed = derive(job.seed, "train", job.round, job.client)
    unfinished = Checkpoint(Home.current().private(job.client), job.key())
    trained = fine_tune(
        base.unet, base.scheduler, splits["train"], start, job.settings.settings(), seed=seed,
        state=unfinished.read(), save_every=SAVE_EVERY, save=unfinished.write,
    )  # fmt: skip
    held = splits.get("tune", splits["train"])

    def loss(adapter: adapters.Adapter) -> float:
        return float(heldout_losses(base.unet, base.scheduler, held, adapter, timesteps=job.timesteps, seed=job.seed).mean())

    record = {
        "echo": job.start.sha256,
        "round": job.round,
        "samples": len(splits["train"]),
        "loss": {"before": loss(start), "after": loss(trained.adapter)},
        "curve": curve(trained.losses),
        "discarded": discarded,
    }
    return Made({"adapter": store.put(adapters.to_bytes(trained.adapter), "adapter", ".safetensors")}, record)


@task(name="train", task_run_name="train {label}", **STAGE)
def train(jobs: Sequence[TrainJob], label: str, timeout: float) -> list[Outcome]:  # noqa: ARG001 the label is for people
    """One outcome a client."""
    return run_clients(compute, jobs, timeout)
