"""A round's stages, one after the other: enrol → encode → train → receive → cluster → aggregate → interact → evaluate → gallery."""

import time

from data.base.folder import base_folder, digest, text_width
from data.home import Home
from data.journal import Journal
from data.manifests import Manifest
from data.records import RoundRecord, bound, read_round, write_round
from fedcore.errors import ConfigError
from fedcore.prompts import requirement_dims
from flows.plan import starting_adapters, train_job, without_rank
from flows.progress import watcher
from flows.record import client_record, cluster_records, enrolments, insist_on_all, insist_on_base, losses_by_split
from flows.stages import Stages
from tasks.aggregate import AggregateJob, Member, aggregate
from tasks.answers import losses, measured, wish
from tasks.cluster import ClusterJob, cluster
from tasks.encode import EncodeJob, encode
from tasks.evaluate import BaselineJob, EvaluateJob, baseline, evaluate
from tasks.gallery import GalleryJob
from tasks.interact import InteractJob, interact
from tasks.receive import Expected, receive
from tasks.train import TrainJob, train


def compute_round(home: Home, name: str, number: int) -> RoundRecord:
    """Compute what is missing of round `number` of the run `name`, and keep its record.

    Raises:
        ConfigError: there is no such round, the one before it is not finished, or the base is another by now.
        RoundFailed: too few clients came through.
    """
    began = time.monotonic()
    f, before = bound(home.server(), name), previous_round(home, name, number)
    stages = Stages(f, number, Journal(home.server(), name, number), home.server())
    base = {"base": f.base, "base_digest": digest(base_folder(f.base))}
    failed: dict[str, str | None] = {}

    history = read_round(home.server(), name, number)
    for record_of in filter(None, (before, history)):
        insist_on_base(record_of, f, base["base_digest"])
    enrolled = enrolments(history) if history else stages.enrol(f.clients)
    failed |= {c: e.reason for c, e in enrolled.items() if e.status != "ok"}
    present = {c: e for c, e in enrolled.items() if e.status == "ok"}
    strangers = without_rank(f, present)
    failed |= strangers
    present = {c: e for c, e in present.items() if c not in strangers}
    stages.need(len(present), "enrolment")
    pictures = {c: float(e.samples) for c, e in present.items()}
    identity = {c: {"client": c, "data": e.digest, **base} for c, e in present.items()}

    dims = requirement_dims(text_width(base_folder(f.base)))
    asked = [EncodeJob(**identity[c]) for c in sorted(present)]
    encoded = stages.clients(encode, asked, pictures, problem=lambda manifest, _: wish(manifest, dims))
    failed |= {c: o.reason for c, o in encoded.items() if o.status != "ok"}
    requirements = {c: o.manifest.outputs["requirement"] for c, o in encoded.items() if o.manifest}
    stages.need(len(requirements), "encoding")

    sent = starting_adapters(stages, {c: present[c] for c in requirements}, requirements, before, base)
    jobs = [train_job(f, present[c], sent[c], number, identity[c]) for c in sorted(sent)]
    handed = stages.clients(train, jobs)
    earlier = {c: who.personal for c, who in before.clients.items()} if before else {}
    accepted = receive(
        list(handed.values()),
        [Expected.of(job, f.adapter.target, present[job.client].samples, earlier.get(job.client)) for job in jobs],
        stages.label,
    )
    refused = {o.client: o.reason for o in accepted if o.status != "ok"}
    stages.journal.strike(TrainJob.stage, list(refused))
    failed |= refused
    trained = {o.client: o.manifest for o in accepted if o.manifest}
    if history:
        insist_on_all(history, trained, failed)
    stages.need(len(trained), "training")
    personal = {c: m.outputs["adapter"] for c, m in trained.items()}

    previous = before.clusters_ref if before else None
    wishes = {c: requirements[c] for c in personal}
    clustered = stages.run(cluster, ClusterJob(requirements=wishes, previous=previous, settings=f.clustering, seed=f.seed))
    members: dict[str, list[str]] = clustered.record["members"]
    placed = {c: i for i, clients in members.items() for c in clients}

    aggregated = aggregate_all(stages, members, trained)
    own = {i: m.outputs["adapter"] for i, m in aggregated.items()}
    exchange = InteractJob(clusters=clustered.outputs["clusters"], adapters=own, settings=f.interaction, rank=f.aggregation.rank)
    interacted = stages.run(interact, exchange)
    mixed = {i: interacted.outputs[f"cluster-{i}"] for i in members}

    painting_job = GalleryJob(clusters=mixed, bank=interacted.outputs["bank"], settings=f.evaluation, seed=f.seed, **base)
    painting = stages.paint(painting_job)
    fixed = {"timesteps": f.evaluation.timesteps, "seed": f.seed}
    plain = stages.clients(baseline, [BaselineJob(**fixed, **identity[c]) for c in sorted(personal)], pictures, problem=losses)
    tests = [EvaluateJob(clusters=mixed, cluster=placed[c], personal=personal[c], **fixed, **identity[c]) for c in sorted(personal)]
    evaluated = stages.clients(evaluate, tests, pictures, problem=measured(plain))
    failed |= {c: o.reason for outcomes in (plain, evaluated) for c, o in outcomes.items() if o.status != "ok"}
    watcher().stage("gallery", 1)
    painted = painting.result()
    watcher().step("done")

    scores = {c: losses_by_split(plain[c].manifest, evaluated[c].manifest) for c in personal}
    record = RoundRecord(
        round=number,
        base=base["base_digest"],
        clients={c: client_record(enrolled[c], placed.get(c), trained.get(c), scores.get(c, {}), failed.get(c)) for c in f.clients},
        clusters=cluster_records(members, mixed, aggregated, interacted),
        clusters_ref=clustered.outputs["clusters"],
        bank=interacted.outputs["bank"],
        gallery=painted.outputs["gallery"],
        styles=painted.record["styles"],
        silhouette=clustered.record["silhouette"],
        bytes_up=sum(r.bytes for r in personal.values()) + sum(r.bytes for c, r in requirements.items() if c not in earlier),
        bytes_down=sum(r.bytes for r in sent.values()),
        seconds=time.monotonic() - began,
        finished=time.time(),
    )
    stages.journal.end()
    return write_round(home.server(), name, record)


def previous_round(home: Home, name: str, number: int) -> RoundRecord | None:
    """The record that round `number` starts from; None for the first.

    Raises:
        ConfigError: it is missing, or the run has no round of this number.
    """
    if not 1 <= number <= (total := bound(home.server(), name).rounds):
        raise ConfigError(f"run '{name}' has rounds 1 to {total}, none of number {number}")
    before = read_round(home.server(), name, number - 1) if number > 1 else None
    if number > 1 and before is None:
        raise ConfigError(f"run '{name}': round {number} needs round {number - 1}, which is not finished; `fedcore resume {name}` runs it")
    return before


def aggregate_all(stages: Stages, members: dict[str, list[str]], trained: dict[str, Manifest]) -> dict[str, Manifest]:
    """Every cluster's aggregation, side by side."""
    watcher().stage("aggregate", len(members))
    futures = {}
    for i, clients in members.items():
        parts = {c: Member(adapter=trained[c].outputs["adapter"], samples=trained[c].record["samples"]) for c in clients}
        futures[i] = stages.submit(aggregate, AggregateJob(members=parts, settings=stages.federation.aggregation), f"cluster {i}")
    out = {}
    for i, future in futures.items():
        out[i] = stages.done(future, f"aggregate cluster {i}")
        watcher().step(f"cluster {i}")
    return out
