"""A round's stages, one after the other: enrol → encode → train → receive → cluster → aggregate → interact → evaluate → gallery."""

import time

from data.base.folder import base_folder, digest, text_width
from data.home import Home
from data.journal import Journal
from data.records import RoundRecord, bound, read_round, write_round
from fedcore.errors import ConfigError
from fedcore.prompts import requirement_dims
from flows.joining import aggregate_all, cluster_job, interact_job, wishes_before
from flows.plan import bytes_handed_over, bytes_sent, clients_of, clusters_before, mixed_with, sent_to, train_job, without_rank
from flows.progress import watcher
from flows.record import (
    cluster_records,
    enrolled_record,
    enrolments,
    insist_on_all,
    insist_on_base,
    insist_on_measured,
    kept,
    losses_by_split,
    personal_parts,
    resting,
    trained_record,
)
from flows.stages import Stages, told
from tasks.answers import losses, measured, wish
from tasks.cluster import cluster
from tasks.encode import EncodeJob, encode
from tasks.evaluate import BaselineJob, EvaluateJob, baseline, evaluate
from tasks.gallery import GalleryJob
from tasks.interact import interact
from tasks.receive import Expected, receive
from tasks.train import TrainJob, train


def compute_round(home: Home, name: str, number: int) -> RoundRecord:
    """Compute what is missing of round `number` of the run `name`, and keep its record.

    Raises:
        ConfigError: there is no such round, the one before it is not finished, or the base is another by now.
        RoundFailed: too few clients came through; or the round was finished before, and not everything of it can be computed again.
    """
    began = time.monotonic()
    f, before = bound(home.server(), name), previous_round(home, name, number)
    stages = Stages(f, number, Journal(home.server(), name, number), home.server())
    base = {"base": f.base, "base_digest": digest(base_folder(f.base)), "precision": f.precision, "device": f.device}
    failed: dict[str, str | None] = {}

    history = read_round(home.server(), name, number)
    for record_of in filter(None, (before, history)):
        insist_on_base(record_of, f, base["base_digest"])
    enrolled = enrolments(history) if history else stages.enrol(clients_of(f, number))
    failed |= {c: e.reason for c, e in enrolled.items() if e.status != "ok"}
    present = {c: e for c, e in enrolled.items() if e.status == "ok"}
    strangers = without_rank(f, present)
    failed |= strangers
    present = {c: e for c, e in present.items() if c not in strangers}
    stages.need(len(present), len(enrolled), "enrolment")
    pictures = {c: float(e.samples) for c, e in present.items()}
    identity = {c: {"client": c, "data": e.digest, **base} for c, e in present.items()}

    dims = requirement_dims(text_width(base_folder(f.base)))
    wanted = [EncodeJob(**identity[c]) for c in sorted(present)]
    encoded = stages.clients(encode, wanted, pictures, problem=lambda manifest, _: wish(manifest, dims))
    failed |= {c: o.reason for c, o in encoded.items() if o.status != "ok"}
    requirements = {c: o.manifest.outputs["requirement"] for c, o in encoded.items() if o.manifest}
    stages.need(len(requirements), len(enrolled), "encoding")

    homes = clusters_before(stages, requirements, before)
    sent = sent_to(stages, {c: present[c] for c in requirements}, homes, before, base)
    jobs = {c: train_job(f, c, sent[c], number, before, identity[c]) for c in sorted(sent)}
    handed = stages.clients(train, list(jobs.values()))
    earlier = {c: who.upload for c, who in before.clients.items()} if before else {}
    arrived = {c for c, outcome in handed.items() if outcome.status == "ok"}
    if arrived:
        watcher().stage("receive", len(arrived))
    accepted = receive(
        list(handed.values()),
        [Expected.of(job, f.adapter.rank_of(present[c].device), present[c].samples, earlier.get(c)) for c, job in jobs.items()],
        stages.label,
    )
    for outcome in accepted:
        if outcome.client in arrived:
            watcher().step(told(outcome))
    refused = {o.client: o.reason for o in accepted if o.status != "ok"}
    stages.journal.strike(TrainJob.stage, list(refused))
    failed |= refused
    trained = {o.client: o.manifest for o in accepted if o.manifest}
    if history:
        insist_on_all(history, trained, failed)
    stages.need(len(trained), len(enrolled), "training")

    wishes = {**wishes_before(before), **{c: requirements[c] for c in trained}}
    clustered = stages.run(cluster, cluster_job(f, number, wishes, homes, before, jobs, trained))
    members: dict[str, list[str]] = clustered.record["members"]
    aggregated = aggregate_all(stages, clustered, before, jobs, trained, sent)
    adapters, at_rest = {i: m.outputs["adapter"] for i, m in aggregated.items()}, resting(members, aggregated, before)
    interacted = stages.run(interact, interact_job(f, number, clustered.outputs["clusters"], adapters, at_rest))
    clusters = cluster_records(members, aggregated, at_rest, interacted)
    whole = {i: clusters[int(i)].adapter for i in members}
    placed = {c: i for i, clients in members.items() for c in clients}

    painting_job = GalleryJob(clusters=whole, bank=interacted.outputs["bank"], settings=f.evaluation, seed=f.seed, **base)
    painting = stages.paint(painting_job)
    fixed = {"timesteps": f.evaluation.timesteps, "seed": f.seed}
    plain = stages.clients(baseline, [BaselineJob(**fixed, **identity[c]) for c in sorted(trained)], pictures, problem=losses)
    parts = {c: personal_parts(jobs[c], trained[c]) for c in sorted(trained)}
    mixed = mixed_with(stages, clusters, {c: placed[c] for c in trained}, present, base)
    seen = {c: whole if f.evaluation.others else {placed[c]: whole[placed[c]]} for c in parts}
    tests = [
        EvaluateJob(clusters=seen[c], cluster=placed[c], personal=of, mixed=mixed[c], **fixed, **identity[c]) for c, of in parts.items()
    ]
    evaluated = stages.clients(evaluate, tests, pictures, problem=measured(plain))
    failed |= {c: o.reason for outcomes in (plain, evaluated) for c, o in outcomes.items() if o.status != "ok"}
    watcher().stage("gallery", 1)
    painted = painting.result()
    watcher().step("done")

    scores = {c: losses_by_split(plain[c].manifest, evaluated[c].manifest) for c in trained}
    if history:
        insist_on_measured(history, scores, failed)
    clients = {c: kept(before.clients.get(c) if before else None, placed.get(c)) for c in f.clients}
    clients |= {c: enrolled_record(clients[c], e, failed.get(c)) for c, e in enrolled.items()}
    clients |= {c: trained_record(clients[c], requirements[c], jobs[c], trained[c], mixed[c], scores[c]) for c in trained}
    record = RoundRecord(
        round=number,
        base=base["base_digest"],
        clients=clients,
        clusters=clusters,
        clusters_ref=clustered.outputs["clusters"],
        alike=clustered.outputs.get("alike"),
        bank=interacted.outputs["bank"],
        gallery=painted.outputs["gallery"],
        styles=painted.record["styles"],
        silhouette=clustered.record["silhouette"],
        bytes_up=history.bytes_up if history else bytes_handed_over(requirements, trained, before),
        bytes_down=history.bytes_down if history else sum(bytes_sent(f, c, sent[c], mixed.get(c, ()), whole, before) for c in sent),
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
