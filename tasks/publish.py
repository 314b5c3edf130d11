"""Publish: what the store holds of a run goes to MLflow; running it twice adds nothing, and all of it can be rebuilt from the store."""

import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from data.base.folder import base_folder
from data.home import Home
from data.peft_folder import kernels, write_peft
from data.records import RoundRecord, bound, champion, mark_published, rounds
from data.store import Ref
from fedcore.adapters import from_bytes
from fedcore.config import FREE

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "fedcore"
CHAMPION = "champion"


def connect(home: Home) -> tuple["MlflowClient", str]:
    """A client and the id of our experiment, both made where missing."""
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    client = MlflowClient(home.tracking_uri, home.tracking_uri)
    own = "://" in home.tracking_uri and not home.tracking_uri.startswith("http")  # a database; a server knows its place for artifacts
    if own:
        home.mlflow.mkdir(parents=True, exist_ok=True)
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return client, str(found.experiment_id)
    return client, client.create_experiment(EXPERIMENT, (home.mlflow / "artifacts").absolute().as_uri() if own else None)


def get_or_create_run(client: "MlflowClient", experiment: str, name: str, tags: dict[str, str], started: float) -> str:
    """The run with exactly these `fedcore.*` tags."""
    wanted = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items() if k.startswith("fedcore."))
    found = client.search_runs([experiment], wanted, max_results=1)
    if found:
        return str(found[0].info.run_id)
    return str(client.create_run(experiment, int(started * 1000), tags, name).info.run_id)


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested configuration as dotted keys."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def metrics_of(record: RoundRecord) -> dict[str, float]:
    """A round's numbers by name; per client `loss_personal/c01`, on the tuning split `tune_personal/c01`."""
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
    for name, c in record.clients.items():
        for prefix, losses in (("loss", c.test), ("tune", c.tune)):
            out |= {f"{prefix}_{what}/{name}": value for what, value in (losses or {}).items() if value is not None}
        if c.training is not None:
            out[f"train_loss/{name}"] = c.training.train_loss
    for i, cluster in record.clusters.items():
        if cluster.aggregation_error is not None:
            out[f"aggregation_error/cluster-{i}"] = cluster.aggregation_error
    return out


def publish_round(client: "MlflowClient", experiment: str, home: Home, name: str, record: RoundRecord, parent: str) -> None:
    """One child run: metrics, gallery, record, and every adapter as a logged model with a registered version."""
    from mlflow.entities import Metric

    tags = {"fedcore.name": name, "fedcore.round": str(record.round), "mlflow.parentRunId": parent}
    run = get_or_create_run(client, experiment, f"{name} round {record.round}", tags, record.finished - record.seconds)
    metrics = [Metric(k, v, int(record.finished * 1000), record.round) for k, v in metrics_of(record).items()]
    for target in (run, parent):
        client.log_batch(target, metrics=metrics)
    with tempfile.TemporaryDirectory() as scratch:
        picture = Path(scratch) / f"round-{record.round:04}.png"
        picture.write_bytes(home.server().get(record.gallery))
        client.log_artifact(run, str(picture), "gallery")
        client.log_artifact(parent, str(picture), "gallery")
    client.log_dict(run, json.loads(record.model_dump_json()), "round.json")
    failed = {c: who.failed for c, who in record.clients.items() if who.failed}
    for tag, value in {
        "fedcore.failed": json.dumps(failed),
        **told(f"Round {record.round} of {name}: gallery, metrics, adapters."),
    }.items():
        client.set_tag(run, tag, value)
    for owner, ref, about in adapters_of(record):
        publish_adapter(client, experiment, home, name, owner, ref, about, run)
    client.set_terminated(run, "FINISHED", int(record.finished * 1000))


def adapters_of(record: RoundRecord) -> Iterator[tuple[str, Ref, dict[str, str]]]:
    """Owner, blob and lineage tags of every adapter of a round."""
    for i, cluster in sorted(record.clusters.items()):
        yield f"cluster-{i}", cluster.adapter, {"members": ",".join(cluster.members)}
    for name, c in sorted(record.clients.items()):
        if c.personal is not None:
            yield f"client-{name}", c.personal, {"cluster": str(c.cluster), "trained_from": c.training.echo if c.training else ""}


def told(text: str) -> dict[str, str]:
    """The note at the head of a run's page, with a link to the flow run that published it, where a Prefect server shows one."""
    page = flow_run.ui_url if flow_run.id and PREFECT_UI_URL.value() else None
    return {"mlflow.note.content": f"{text} [Flow run in Prefect]({page})" if page else text}


def publish_adapter(
    client: "MlflowClient", experiment: str, home: Home, name: str, owner: str, ref: Ref, about: dict[str, str], run: str
) -> None:
    """One logged model and one registered version for (run, owner, round); found again by its tags."""
    from mlflow.exceptions import MlflowException

    number = client.get_run(run).data.tags["fedcore.round"]
    registered = f"{name}.{owner}"
    if any(
        v.tags.get("sha256") == ref.sha256 and v.tags.get("round") == number for v in client.search_model_versions(f"name='{registered}'")
    ):
        return
    tags = {"sha256": ref.sha256, "round": number, "owner": owner, "fedcore.name": name, **about}
    base = bound(home.server(), name).base
    with tempfile.TemporaryDirectory() as scratch:
        adapter = from_bytes(home.server().get(ref))
        write_peft(adapter, kernels(base_folder(base) / "unet", sorted(adapter)), Path(scratch), base=base)
        (Path(scratch) / "lineage.json").write_text(json.dumps(tags, indent=1, sort_keys=True))
        title = f"{name}-{owner}-r{number}"
        begun = client.search_logged_models([experiment], f"name = '{title}' AND tags.sha256 = '{ref.sha256}'", max_results=1)
        model = begun[0] if begun else client.create_logged_model(experiment, title, run, tags, model_type="lora")
        client.log_model_artifacts(model.model_id, scratch)
        client.finalize_logged_model(model.model_id, "READY")
    try:
        client.create_registered_model(registered)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.create_model_version(registered, model.artifact_location, run, tags, model_id=model.model_id)


def publish_run(home: Home, name: str, only: int | None = None) -> tuple[str, str]:
    """Bring MLflow up to date with the store: the parent run, `only` one round or all; the alias moves last.

    Returns the ids of the experiment and of the parent run.
    """
    from mlflow.entities import Param

    client, experiment = connect(home)
    federation, records = bound(home.server(), name), rounds(home.server(), name)
    first = records[0]
    parent = get_or_create_run(client, experiment, name, {"fedcore.name": name, "fedcore.round": "all"}, first.finished - first.seconds)
    client.log_batch(parent, params=[Param(k, v) for k, v in flat(federation.model_dump(mode="json", exclude=set(FREE)))])
    about = told(
        f"{name}: {len(federation.clients)} clients. A run below for each round; registered models {name}.client-… and {name}.cluster-…."
    )
    for tag, value in {"fedcore.rounds": str(federation.rounds), **about}.items():
        client.set_tag(parent, tag, value)
    client.log_dict(parent, federation.model_dump(mode="json"), "federation.json")
    treated = [r for r in records if only in (None, r.round)]
    for record in treated:
        publish_round(client, experiment, home, name, record, parent)
    best = champion(records)
    for owner, ref, _ in adapters_of(best):
        for version in client.search_model_versions(f"name='{name}.{owner}'"):
            if version.tags.get("sha256") == ref.sha256 and version.tags.get("round") == str(best.round):
                client.set_registered_model_alias(f"{name}.{owner}", CHAMPION, version.version)
    client.set_tag(parent, "fedcore.champion", str(best.round))
    if len(records) >= federation.rounds:
        client.set_terminated(parent, "FINISHED", int(records[-1].finished * 1000))
    for record in treated:  # last: whatever ends this before is made up for by publishing again
        mark_published(home.server(), name, record)
    return experiment, parent


@task(name="publish", task_run_name="publish {label}", retries=2, retry_delay_seconds=2)
def publish(name: str, number: int, label: str) -> tuple[str, str]:  # noqa: ARG001 the label is for people
    """Publish one round of a run; returns the ids of MLflow's experiment and of the run's parent run in it."""
    return publish_run(Home.current(), name, number)
