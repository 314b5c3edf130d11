"""What follows from the configuration for each client of a round: the adapter it is sent, and what it is asked to train."""

from data.records import RoundRecord
from data.store import Ref
from fedcore.config import Federation
from fedcore.errors import ConfigError
from flows.stages import Stages
from tasks.assign import AssignJob, assign
from tasks.enrol import Enrolment
from tasks.start import StartJob, start
from tasks.train import TrainJob


def starting_adapters(
    stages: Stages, present: dict[str, Enrolment], requirements: dict[str, Ref], before: RoundRecord | None, base: dict[str, str]
) -> dict[str, Ref]:
    """The adapter each client is sent: its cluster's of the round before, a newcomer the nearest one's; in round 1 a fresh one."""
    if before is not None:
        sent = {c: of.adapter for of in before.clusters.values() for c in of.members if c in present}
        newcomers = {c: requirements[c] for c in sorted(set(present) - set(sent))}
        if newcomers:
            found = stages.run(assign, AssignJob(requirements=newcomers, clusters=before.clusters_ref))
            sent |= {c: before.clusters[i].adapter for c, i in found.record["cluster"].items()}
        return sent
    f, fresh = stages.federation, {}
    ranks = {c: f.adapter.rank_of(e.device) for c, e in sorted(present.items())}
    for rank in sorted(set(ranks.values())):
        job = StartJob(rank=rank, scale=f.adapter.scale_of(rank), target=f.adapter.target, seed=f.seed, **base)
        fresh[rank] = stages.run(start, job, f"rank {rank}").outputs["adapter"]
    return {c: fresh[rank] for c, rank in ranks.items()}


def train_job(f: Federation, enrolled: Enrolment, sent: Ref, number: int, identity: dict[str, str]) -> TrainJob:
    """What a client is asked to train."""
    rank = f.adapter.rank_of(enrolled.device)
    scale, timesteps = f.adapter.scale_of(rank), f.evaluation.timesteps
    return TrainJob(start=sent, rank=rank, scale=scale, settings=f.training, timesteps=timesteps, round=number, seed=f.seed, **identity)


def without_rank(f: Federation, present: dict[str, Enrolment]) -> dict[str, str]:
    """Clients whose device class the federation gives no rank, with the reason."""
    out: dict[str, str] = {}
    for client, enrolled in present.items():
        try:
            f.adapter.rank_of(enrolled.device)
        except ConfigError as error:
            out[client] = str(error)
    return out
