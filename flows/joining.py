"""How a round's accepted adapters become clusters' adapters: the jobs of clustering, aggregation and exchange."""

from collections.abc import Mapping

from data.manifests import Manifest
from data.records import ClusterRecord, RoundRecord
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


def wishes_before(before: RoundRecord | None) -> dict[str, Ref]:
    """What the clients of earlier rounds wish, which take part in the grouping whether or not they do in the round."""
    return {c: who.requirement for c, who in before.clients.items() if who.requirement} if before else {}


def cluster_job(
    f: Federation,
    number: int,
    wishes: dict[str, Ref],
    homes: Mapping[str, int],
    before: RoundRecord | None,
    jobs: Mapping[str, TrainJob],
    trained: Mapping[str, Manifest],
) -> ClusterJob:
    """Clients are grouped by their wishes, and where it is asked for by what their adapters learnt; those that are away as well."""
    want, handed = f.clustering, dict[str, Handed]()
    if want.on != "requirements" and want.method not in (BY_LOSS, "alone"):
        handed = {c: Handed(adapter=trained[c].outputs["adapter"], start=jobs[c].start, hands=jobs[c].hands) for c in sorted(trained)}
    previous = before.clusters_ref if before else None
    alike = before.alike if before and handed else None
    known = {c: who.cluster for c, who in before.clients.items() if who.cluster is not None} if before else {}
    chosen = choices(f, sorted(wishes), known | {c: homes[c] for c in trained if c in homes})
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
    """The aggregation of every cluster of which somebody took part, side by side; with soft membership an adapter goes into several."""
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
            if i in shares and c in trained
        }
        if not parts:
            watcher().step(f"cluster {i}: at rest")
            continue
        known = before.clusters.get(int(i)) if before else None
        trains = want.rule.trains(stages.number)
        job = AggregateJob(members=parts, settings=want, trains=trains, state=known.state if known else None)
        futures[i] = stages.submit(aggregate, job, f"cluster {i}")
    out = {}
    for i, future in futures.items():
        out[i] = stages.done(future, f"aggregate cluster {i}")
        watcher().step(f"cluster {i}")
    return out


def interact_job(f: Federation, number: int, clusters: Ref, adapters: dict[str, Ref], at_rest: Mapping[str, ClusterRecord]) -> InteractJob:
    """The exchange of round `number`."""
    ranks = [f.adapter.rank] if isinstance(f.adapter.rank, int) else list(f.adapter.rank.values())
    return InteractJob(
        clusters=clusters,
        adapters=adapters,
        resting={i: record.adapter for i, record in at_rest.items()},
        settings=f.interaction,
        own=f.interaction.own_in(number),
        split=f.aggregation.rule.split,
        head=max(ranks),
        rank=f.aggregation.rank,
        transport=f.adapter.transport,
    )
