"""What follows from the configuration for each client of a round: whether it is asked, what it is sent, what it is asked to train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.manifests import Manifest
from data.records import ClusterRecord, RoundRecord, beginning
from data.store import Ref
from fedcore.clustering import BY_LOSS, drawn
from fedcore.config import Federation
from fedcore.errors import ConfigError
from fedcore.participation import Habits, asked, steps_of
from fedcore.seeds import derive
from flows.stages import Stages
from tasks.assign import AssignJob, assign
from tasks.enrol import Enrolment
from tasks.start import DivideJob, StartJob, divide, start
from tasks.train import TrainJob


@dataclass(frozen=True)
class Sent:
    """What a client is sent: what it trains, what stands beside it, and the part of that which belongs to its cluster's adapter."""

    start: Ref
    beside: tuple[Ref, ...]
    tail: Ref | None


def clients_of(f: Federation, number: int) -> list[str]:
    """The clients that are asked in a round."""
    return asked(f.clients, number, Habits(**f.participation.model_dump()), f.seed)


def clusters_before(stages: Stages, requirements: Mapping[str, Ref], before: RoundRecord | None) -> dict[str, int]:
    """The cluster of the round before that each client goes on from; none in the first round.

    It is the one that it was in (or, where clients choose, the one whose adapter suited it best); a newcomer's is the one
    that its wish is nearest to, but for those who learn alone: they begin afresh.
    """
    if before is None:
        return {}
    found: dict[str, int] = {}
    for client in sorted(requirements):
        known = before.clients.get(client)
        if stages.federation.clustering.method == BY_LOSS and known and known.by_cluster:
            losses = {int(i): loss for i, loss in known.by_cluster.items() if int(i) in before.clusters}
            found[client] = min(losses, key=lambda i: (losses[i], i))
        elif known and known.cluster in before.clusters:
            found[client] = int(known.cluster or 0)
    newcomers = {c: requirements[c] for c in sorted(set(requirements) - set(found))}
    if newcomers and stages.federation.clustering.method != "alone":
        placed = stages.run(assign, AssignJob(requirements=newcomers, clusters=before.clusters_ref))
        found |= {c: int(i) for c, i in placed.record["cluster"].items()}
    return found


def choices(f: Federation, clients: list[str], homes: Mapping[str, int]) -> dict[str, int]:
    """Where clients choose their cluster: what they chose, or in the first round what is drawn for them."""
    if f.clustering.method != BY_LOSS or f.clustering.k == "auto":
        return {}
    return {c: homes[c] if c in homes else drawn(c, f.clustering.k, f.seed) for c in clients}


def sent_to(
    stages: Stages, present: Mapping[str, Enrolment], homes: Mapping[str, int], before: RoundRecord | None, base: dict[str, str]
) -> dict[str, Sent]:
    """What each client is sent: its cluster's adapter divided for its rank, in the first round a fresh one."""
    f, out, made = stages.federation, dict[str, Sent](), dict[tuple[int | None, int], Sent]()
    for client in sorted(present):
        rank, home = f.adapter.rank_of(present[client].device), homes.get(client)
        if (home, rank) not in made:
            of = before.clusters[home] if before and home is not None else None
            adapter = of.own if of else beginning(stages.store, f)
            job = StartJob(adapter=adapter, **_division(f, rank, stages.number if before else None), **base)
            who = f"rank {rank}" if home is None else f"cluster {home} rank {rank}"
            outputs = stages.run(start, job, who).outputs
            tail, others = outputs.get("tail"), of.beside if of else None
            made[home, rank] = Sent(outputs["start"], tuple(filter(None, (tail, others))), tail)
        out[client] = made[home, rank]
    return out


def _division(f: Federation, rank: int, number: int | None) -> dict[str, Any]:
    """How an adapter is divided for clients of a rank, to begin round `number` with it; None: the first."""
    rule = f.aggregation.rule
    seed = f.seed if number is None or rule.split != "fresh" else derive(f.seed, "start", number)
    of = f.adapter
    return {"split": rule.split, "rank": rank, "scale": of.scale_of(rank), "transport": of.transport, "target": of.target, "seed": seed}


def mixed_with(
    stages: Stages, clusters: Mapping[int, ClusterRecord], placed: Mapping[str, str], present: Mapping[str, Enrolment], base: dict[str, str]
) -> dict[str, tuple[Ref, ...]]:
    """What each client mixes its own model with, where it does: its cluster's new adapter as it will be sent to it next."""
    f, made = stages.federation, dict[tuple[str, int], tuple[Ref, ...]]()
    if f.personal.method != "mixture":
        return dict.fromkeys(placed, ())
    ranks = {c: f.adapter.rank_of(present[c].device) for c in placed}
    for home, rank in sorted({(placed[c], ranks[c]) for c in placed}):
        of = clusters[int(home)]
        job = DivideJob(adapter=of.own, **_division(f, rank, stages.number + 1), **base)
        outputs = stages.run(divide, job, f"cluster {home} rank {rank}").outputs
        fresh = f.aggregation.rule.split == "fresh"  # it has no update yet
        made[home, rank] = tuple(filter(None, (None if fresh else outputs["start"], outputs.get("tail"), of.beside)))
    return {c: made[placed[c], ranks[c]] for c in placed}


def bytes_handed_over(requirements: Mapping[str, Ref], trained: Mapping[str, Manifest], before: RoundRecord | None) -> int:
    """By all clients: their adapters, and their wishes, which are told once."""
    told = {c for c, who in before.clients.items() if who.requirement} if before else set()
    wishes = sum(ref.bytes for client, ref in requirements.items() if client not in told)
    return wishes + sum(manifest.outputs["adapter"].bytes for manifest in trained.values())


def bytes_sent(
    f: Federation, client: str, sent: Sent, mixed: Sequence[Ref], clusters: Mapping[str, Ref], before: RoundRecord | None
) -> int:
    """To one client: what it begins with, unless it has that already; what it mixes with, or needs to choose its cluster by."""
    known = before.clients.get(client) if before else None
    had = {ref.sha256 for ref in known.mixed} if known else set()
    new = {ref.sha256: ref.bytes for ref in (sent.start, *sent.beside, *mixed) if ref.sha256 not in had}
    return sum(new.values()) + (sum(ref.bytes for ref in clusters.values()) if f.clustering.method == BY_LOSS else 0)


def train_job(f: Federation, client: str, sent: Sent, number: int, before: RoundRecord | None, identity: dict[str, str]) -> TrainJob:
    """What a client is asked to train."""
    rule, known = f.aggregation.rule, before.clients.get(client) if before else None
    keeps = rule.shares is not None or f.personal.trains
    steps = steps_of(client, number, f.training.steps, Habits(**f.participation.model_dump()), f.seed)
    return TrainJob(
        start=sent.start,
        beside=sent.beside,
        own=known.personal if known and keeps else None,
        trains=rule.trains(number),
        hands=rule.handed_over(number),
        transport=f.adapter.transport,
        settings=f.training.in_round(number, steps),
        personal=f.personal,
        round=number,
        first=known is None or known.upload is None,
        seed=f.seed,
        **identity,
    )


def without_rank(f: Federation, present: dict[str, Enrolment]) -> dict[str, str]:
    """Clients whose device class the federation gives no rank, with the reason."""
    out: dict[str, str] = {}
    for client, enrolled in present.items():
        try:
            f.adapter.rank_of(enrolled.device)
        except ConfigError as error:
            out[client] = str(error)
    return out
