"""Publish: what the store holds of a run goes to MLflow; running it twice adds nothing, and all of it can be rebuilt from the store."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from prefect import task
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from data.base.folder import base_folder
from data.formats import peft
from data.formats.tensors import Made, made_for
from data.home import Home
from data.records import Model, RoundRecord, bound, champion, mark_published, rounds
from data.store import Store
from fedcore.adapters import from_bytes
from fedcore.config import FREE, Federation
from tasks._models import load_model
from tasks._tracking import Tracking, Versioned, connect

ONE_BY_ONE = 32
"""Up to so many clients each has curves and registered models of its own in MLflow; beyond, its pages would show nothing any more,
and clients are found in each round's `clients.csv` and `round.json`, their adapters in the store."""


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested configuration as dotted keys."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def metrics_of(record: RoundRecord) -> dict[str, float]:
    """A round's numbers by name.

    Per client `loss_personal/c01`, on the tuning split `tune_personal/c01`; `train_loss/c01`, the mean over its last quarter of steps.
    """
    out: dict[str, float] = {
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "seconds": record.seconds,
        "clusters": len(record.clusters),
    }
    for split, prefix in (("test", "loss"), ("tune", "tune")):
        for what in ("base", "cluster", "other_cluster", "personal"):
            value = record.mean(what, split)
            if value == value:  # not NaN: some client has this split
                out[f"mean_{prefix}_{what}"] = value
    for i, cluster in record.clusters.items():
        if cluster.aggregation_error is not None:
            out[f"aggregation_error/cluster-{i}"] = cluster.aggregation_error
    if len(record.clients) > ONE_BY_ONE:
        return out
    for name, c in record.clients.items():
        for prefix, losses in (("loss", c.test), ("tune", c.tune)):
            out |= {f"{prefix}_{what}/{name}": value for what, value in (losses or {}).items() if value is not None}
        if c.training is not None:
            out[f"train_loss/{name}"] = fmean(c.training.curve[-max(1, len(c.training.curve) // 4) :])
    return out


def curves_of(record: RoundRecord, steps: int) -> Iterator[tuple[str, float, int]]:
    """Every client's training loss over the `steps` of this round: `training/c01`, value, step."""
    if len(record.clients) > ONE_BY_ONE:
        return
    for name, c in record.clients.items():
        curve = c.training.curve if c.training else []
        yield from ((f"training/{name}", value, i * steps // len(curve)) for i, value in enumerate(curve, start=1))


def clients_table(record: RoundRecord) -> str:
    """A round's clients as CSV, a line each."""
    out = io.StringIO()
    losses = ("base", "cluster", "other_cluster", "personal")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["client", "cluster", "pictures", *(f"loss_{what}" for what in losses), "adapter_sha256", "left_out"])
    for name, c in sorted(record.clients.items()):
        of = c.test or {}
        writer.writerow(
            [name, c.cluster, c.samples, *(of.get(what) for what in losses), c.personal.sha256 if c.personal else None, c.failed]
        )
    return out.getvalue()


def adapters_of(record: RoundRecord) -> Iterator[tuple[str, Model, dict[str, str]]]:
    """Owner, model and lineage tags of every adapter of a round that becomes a version."""
    for i, cluster in sorted(record.clusters.items()):
        members = ",".join(cluster.members) if len(cluster.members) <= ONE_BY_ONE else f"{len(cluster.members)} clients"
        yield f"cluster-{i}", ((1.0, cluster.adapter),), {"members": members}
    if len(record.clients) > ONE_BY_ONE:
        return
    for name, c in sorted(record.clients.items()):
        if c.training is not None and c.personal is not None:
            tags = {"cluster": str(c.cluster), "trained_from": c.training.echo}
            yield f"client-{name}", record.model_of(name), tags


def digest_of(model: Model) -> str:
    """What names a model: the SHA-256 of its adapter, or that of its parts' names and weights."""
    if len(model) == 1 and model[0][0] == 1:
        return model[0][1].sha256
    return hashlib.sha256("".join(f"{ref.sha256} {weight} " for weight, ref in model).encode()).hexdigest()


@dataclass(frozen=True)
class _Files:
    """Writes a model's adapter as a PEFT folder."""

    of: Made
    model: Model

    def __call__(self, folder: Path) -> None:
        if (adapter := load_model(self.model)) is not None:
            peft.write_peft(adapter, self.of, folder)


def versions_of(store: Store, name: str, base: str, record: RoundRecord) -> list[Versioned]:
    """A round's adapters as MLflow is to keep them."""
    first = from_bytes(store.get(next(iter(record.clusters.values())).adapter))
    of = made_for(base, base_folder(base), first)
    return [
        Versioned(
            registered=f"{name}.{owner}",
            title=f"{name}-{owner}-r{record.round}",
            tags={"sha256": digest_of(model), "round": str(record.round), "owner": owner, "fedcore.name": name, **about},
            write=_Files(of, model),
        )
        for owner, model, about in adapters_of(record)
    ]


def run_of(tracking: Tracking, name: str, record: RoundRecord, parent: str) -> str:
    """The child run of a round."""
    tags = {"fedcore.name": name, "fedcore.round": str(record.round), "mlflow.parentRunId": parent}
    return tracking.run(f"{name} round {record.round}", tags, record.finished - record.seconds)


def publish_round(tracking: Tracking, store: Store, federation: Federation, record: RoundRecord, parent: str) -> None:
    """One child run: metrics, gallery, record, table of clients, and every adapter as a logged model with a registered version."""
    name, steps = federation.name, federation.training.steps
    run, client = run_of(tracking, name, record, parent), tracking.client
    gallery = store.get(record.gallery)
    numbers = [(metric, value, record.round) for metric, value in metrics_of(record).items()]
    tracking.measure(parent, numbers, record.finished)
    tracking.measure(run, [*numbers, *curves_of(record, steps)], record.finished)
    for target, path in ((run, "gallery.png"), (parent, f"gallery/round-{record.round:04d}.png")):
        client.log_stream(target, io.BytesIO(gallery), path)
    client.log_dict(run, json.loads(record.model_dump_json()), "round.json")
    client.log_text(run, clients_table(record), "clients.csv")
    failed = {c: who.failed for c, who in record.clients.items() if who.failed}
    tags = {"fedcore.failed": json.dumps(failed), **told(f"Round {record.round} of {name}: gallery, metrics, adapters.")}
    tracking.describe(run, tags=tags)
    tracking.keep(run, versions_of(store, name, federation.base, record))
    client.set_terminated(run, "FINISHED", int(record.finished * 1000))


def told(text: str) -> dict[str, str]:
    """The note at the head of a run's page, with a link to the flow run that published it, where a Prefect server shows one."""
    page = flow_run.ui_url if flow_run.id and PREFECT_UI_URL.value() else None
    return {"mlflow.note.content": f"{text} [Flow run in Prefect]({page})" if page else text}


def publish_run(home: Home, name: str, only: int | None = None) -> tuple[str, str]:
    """Bring MLflow up to date with the store: the parent run, `only` one round or all; the alias moves last.

    Returns the ids of the experiment and of the parent run.
    """
    tracking, store = connect(home), home.server()
    federation, records = bound(store, name), rounds(store, name)
    first = records[0]
    parent = tracking.run(name, {"fedcore.name": name, "fedcore.round": "all"}, first.finished - first.seconds)
    values = federation.model_dump(mode="json")
    about = (
        f"{name}: {len(federation.clients)} clients, a run below for each round, registered models {name}.client-… and {name}.cluster-…."
    )
    tracking.describe(
        parent,
        params=dict(flat({**{k: v for k, v in values.items() if k not in FREE}, "clients": len(federation.clients)})),
        tags={"fedcore.rounds": str(federation.rounds), **told(about)},
    )
    tracking.client.log_dict(parent, values, "federation.json")
    treated = [r for r in records if only in (None, r.round)]
    for record in treated:
        publish_round(tracking, store, federation, record, parent)
    best = champion(records)
    tracking.crown(
        name, run_of(tracking, name, best, parent), {f"{name}.{owner}": digest_of(model) for owner, model, _ in adapters_of(best)}
    )
    tracking.describe(parent, tags={"fedcore.champion": str(best.round)})
    if len(records) >= federation.rounds:
        tracking.client.set_terminated(parent, "FINISHED", int(records[-1].finished * 1000))
    for record in treated:  # last: whatever ends this before is made up for by publishing again
        mark_published(store, name, record)
    return tracking.experiment, parent


@task(name="publish", task_run_name="publish {label}", retries=2, retry_delay_seconds=2)
def publish(name: str, number: int, label: str) -> tuple[str, str]:  # noqa: ARG001 the label is for people
    """Publish one round of a run; returns the ids of MLflow's experiment and of the run's parent run in it."""
    return publish_run(Home.current(), name, number)
