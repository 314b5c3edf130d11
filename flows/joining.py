"""How a round's accepted adapters become clusters' adapters: the jobs of clustering, aggregation and exchange."""

from collections.abc import Mapping

from data.manifests import Manifest
from data.records import RoundRecord
from data.store import Ref
from fedcore.clustering import BY_LOSS
from fedcore.config import Federation
from flows.plan import Sent, choices
from flows.progress import watcher
from flows.stages import Stages
from tasks._members import Handed, Member
from tasks.aggregate import AggregateJob, aggregate
from tasks.cluster import ClusterJob
from tasks.interact import InteractJob
from tasks.train import TrainJob


def cluster_job(
    f: Federation,
    number: int,
    wishes: dict[str, Ref],
    homes: Mapping[str, int],
    before: RoundRecord | None,
    jobs: Mapping[str, TrainJob],
    trained: Mapping[str, Manifest],
) -> ClusterJob:
    """Clients are grouped by their wishes, and where it is asked for by what their adapters learnt."""
    want, handed = f.clustering, dict[str, Handed]()
    if want.on != "requirements" and want.method not in (BY_LOSS, "alone"):
        handed = {c: Handed(adapter=trained[c].outputs["adapter"], start=jobs[c].start, hands=jobs[c].hands) for c in sorted(wishes)}
    previous = before.clusters_ref if before else None
    alike = before.alike if before and handed else None
    chosen = choices(f, sorted(wishes), homes)
    return ClusterJob(
        requirements=wishes, previous=previous, settings=want.in_round(number), seed=f.seed, handed=handed, alike=alike, choices=chosen
    )


def aggregate_all(
    stages: Stages,
    clustered: Manifest,
    before: RoundRecord | None,
    jobs: Mapping[str, TrainJob],
    trained: Mapping[str, Manifest],
    sent: Mapping[str, Sent],
) -> dict[str, Manifest]:
    """Every cluster's aggregation, side by side; with soft membership a client's adapter goes into several clusters."""
    want, members = stages.federation.aggregation, clustered.record["members"]
    hard = {c: {i: 1.0} for i, clients in members.items() for c in clients}
    watcher().stage("aggregate", len(members))
    futures = {}
    for i in members:
        parts = {
            c: Member(
                adapter=trained[c].outputs["adapter"],
                start=jobs[c].start,
                hands=jobs[c].hands,
                tail=sent[c].tail,
                weight=shares[i] * (trained[c].record["samples"] if want.weights == "pictures" else 1),
            )
            for c, shares in sorted((clustered.record["shares"] or hard).items())
            if i in shares
        }
        known = before.clusters.get(int(i)) if before else None
        trains = want.rule.trains(stages.number)
        job = AggregateJob(members=parts, settings=want, trains=trains, state=known.state if known else None)
        futures[i] = stages.submit(aggregate, job, f"cluster {i}")
    out = {}
    for i, future in futures.items():
        out[i] = stages.done(future, f"aggregate cluster {i}")
        watcher().step(f"cluster {i}")
    return out


def interact_job(f: Federation, number: int, clusters: Ref, adapters: dict[str, Ref]) -> InteractJob:
    """The exchange of round `number`."""
    ranks = [f.adapter.rank] if isinstance(f.adapter.rank, int) else list(f.adapter.rank.values())
    return InteractJob(
        clusters=clusters,
        adapters=adapters,
        settings=f.interaction,
        own=f.interaction.own_in(number),
        split=f.aggregation.rule.split,
        head=max(ranks),
        rank=f.aggregation.rank,
    )
