"""What follows from the configuration for each client of a round: the adapter it is sent, and what it is asked to train."""

from data.records import RoundRecord
from data.store import Ref
from fedcore.config import Federation
from flows.stages import Stages
from tasks.enrol import Enrolment
from tasks.start import StartJob, start
from tasks.train import TrainJob


def starting_adapters(stages: Stages, present: dict[str, Enrolment], before: RoundRecord | None, base: dict[str, str]) -> dict[str, Ref]:
    """The adapter each client is sent: its cluster's of the round before, or a fresh one of its rank."""
    f = stages.federation
    sent: dict[str, Ref] = {}
    if before is not None:
        sent = {c: of.adapter for of in before.clusters.values() for c in of.members if c in present}
    fresh: dict[int, Ref] = {}
    for client in sorted(set(present) - set(sent)):
        rank = f.adapter.rank_of(present[client].device)
        if rank not in fresh:
            job = StartJob(rank=rank, scale=f.adapter.scale_of(rank), target=f.adapter.target, seed=f.seed, **base)
            fresh[rank] = stages.run(start, job, f"rank {rank}").outputs["adapter"]
        sent[client] = fresh[rank]
    return sent


def train_job(f: Federation, enrolled: Enrolment, sent: Ref, number: int, identity: dict[str, str]) -> TrainJob:
    """What a client is asked to train."""
    rank = f.adapter.rank_of(enrolled.device)
    scale, timesteps = f.adapter.scale_of(rank), f.evaluation.timesteps
    return TrainJob(start=sent, rank=rank, scale=scale, settings=f.training, timesteps=timesteps, round=number, seed=f.seed, **identity)
