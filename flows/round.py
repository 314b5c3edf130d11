"""One federated round = one flow: enrol → encode → train → receive → cluster → aggregate → interact → evaluate → gallery."""

import time
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from data.base.load import base_folder, digest
from data.home import Home
from data.manifests import Manifest
from data.records import RoundRecord, write_round
from fedcore.config import Federation
from flows.plan import starting_adapters, train_job
from flows.progress import watcher
from flows.record import client_record, cluster_records, losses_by_split
from flows.report import report
from flows.stages import need, run, run_clients, submit
from tasks._dispatch import workers
from tasks.aggregate import AggregateJob, Member, aggregate
from tasks.cluster import ClusterJob, cluster
from tasks.encode import EncodeJob, encode
from tasks.enrol import enrol
from tasks.evaluate import BaselineJob, EvaluateJob, baseline, evaluate
from tasks.gallery import GalleryJob, paint_gallery
from tasks.interact import InteractJob, interact
from tasks.receive import Expected, receive
from tasks.train import train


@flow(
    name="federated-round",
    flow_run_name="{name} round {number}",
    task_runner=ThreadPoolTaskRunner(max_workers=workers()),  # type: ignore[arg-type]
    validate_parameters=False,
)
def federated_round(name: str, config: dict[str, Any], number: int, before: RoundRecord | None) -> RoundRecord:
    """One round; `before` is the record of the round before. What was computed already is taken from the store."""
    began, f, label = time.monotonic(), Federation.model_validate(config), f"r{number}"
    base = {"base": f.base, "base_digest": digest(base_folder(f.base))}
    failed: dict[str, str | None] = {}

    enrolled = {e.client: e for e in enrol(f.clients, label, f.client_timeout)}
    failed |= {c: e.reason for c, e in enrolled.items() if e.status != "ok"}
    present = {c: e for c, e in enrolled.items() if e.status == "ok"}
    need(f.quorum, len(f.clients), len(present), f"round {number}, enrolment")
    identity = {c: {"client": c, "data": e.digest, **base} for c, e in present.items()}

    encoded = run_clients(encode, [EncodeJob(**identity[c]) for c in sorted(present)], label, f.client_timeout)
    failed |= {c: o.reason for c, o in encoded.items() if o.status != "ok"}
    requirements = {c: o.manifest.outputs["requirement"] for c, o in encoded.items() if o.manifest}
    need(f.quorum, len(f.clients), len(requirements), f"round {number}, encoding")

    sent = starting_adapters(f, {c: present[c] for c in requirements}, before, base, label)
    jobs = [train_job(f, present[c], sent[c], number, identity[c]) for c in sorted(sent)]
    handed = run_clients(train, jobs, label, f.client_timeout)
    accepted = receive(list(handed.values()), [Expected.of(job, f.adapter.target) for job in jobs], label)
    failed |= {o.client: o.reason for o in accepted if o.status != "ok"}
    trained = {o.client: o.manifest for o in accepted if o.manifest}
    need(f.quorum, len(f.clients), len(trained), f"round {number}, training")
    personal = {c: m.outputs["adapter"] for c, m in trained.items()}

    previous = before.clusters_ref if before else None
    wishes = {c: requirements[c] for c in personal}
    clustered = run(cluster, ClusterJob(requirements=wishes, previous=previous, settings=f.clustering, seed=f.seed), label)
    members: dict[str, list[str]] = clustered.record["members"]
    home = {c: i for i, clients in members.items() for c in clients}

    aggregated = aggregate_all(f, members, trained, label)
    own = {i: m.outputs["adapter"] for i, m in aggregated.items()}
    exchange = InteractJob(clusters=clustered.outputs["clusters"], adapters=own, settings=f.interaction, rank=f.aggregation.rank)
    interacted = run(interact, exchange, label)
    mixed = {i: interacted.outputs[f"cluster-{i}"] for i in members}

    painting = submit(
        paint_gallery, GalleryJob(clusters=mixed, bank=interacted.outputs["bank"], settings=f.evaluation, seed=f.seed, **base), label
    )
    fixed = {"timesteps": f.evaluation.timesteps, "seed": f.seed}
    plain = run_clients(baseline, [BaselineJob(**fixed, **identity[c]) for c in sorted(personal)], label, f.client_timeout)
    tests = [EvaluateJob(clusters=mixed, cluster=home[c], personal=personal[c], **fixed, **identity[c]) for c in sorted(personal)]
    evaluated = run_clients(evaluate, tests, label, f.client_timeout)
    failed |= {c: o.reason for outcomes in (plain, evaluated) for c, o in outcomes.items() if o.status != "ok"}
    watcher().stage("gallery", 1)
    painted = painting.result()
    watcher().step("done")

    scores = {c: losses_by_split(plain[c].manifest, evaluated[c].manifest) for c in personal}
    record = RoundRecord(
        round=number,
        clients={c: client_record(enrolled[c], home.get(c), trained.get(c), scores.get(c, {}), failed.get(c)) for c in f.clients},
        clusters=cluster_records(members, mixed, aggregated, interacted),
        clusters_ref=clustered.outputs["clusters"],
        bank=interacted.outputs["bank"],
        gallery=painted.outputs["gallery"],
        styles=painted.record["styles"],
        silhouette=clustered.record["silhouette"],
        bytes_up=sum(r.bytes for r in personal.values()) + (sum(r.bytes for r in requirements.values()) if before is None else 0),
        bytes_down=sum(r.bytes for r in sent.values()),
        seconds=time.monotonic() - began,
        finished=time.time(),
    )
    kept = write_round(Home.current().server(), name, record)
    report(Home.current(), name, kept)
    return kept


def aggregate_all(f: Federation, members: dict[str, list[str]], trained: dict[str, Manifest], label: str) -> dict[str, Manifest]:
    """Every cluster's aggregation, side by side."""
    watcher().stage("aggregate", len(members))
    futures = {}
    for i, clients in members.items():
        parts = {c: Member(adapter=trained[c].outputs["adapter"], samples=trained[c].record["samples"]) for c in clients}
        futures[i] = submit(aggregate, AggregateJob(members=parts, settings=f.aggregation), f"cluster {i} {label}")
    out = {}
    for i, future in futures.items():
        out[i] = future.result()
        watcher().step(f"cluster {i}")
    return out
