"""Writing to MLflow so that writing twice adds nothing: runs are found again by their tags, adapters by their run and hash."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from data.home import Home

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

EXPERIMENT = "fedcore"
CHAMPION = "champion"
BATCH = 1000
"""Metrics that MLflow takes at once."""


@dataclass(frozen=True)
class Versioned:
    """An adapter to be kept: its registered name, lineage tags (`sha256` among them), and what writes its files into a folder."""

    registered: str
    title: str
    tags: dict[str, str]
    write: Callable[[Path], None]


@dataclass(frozen=True)
class Tracking:
    """Our experiment in MLflow."""

    client: "MlflowClient"
    experiment: str

    def run(self, name: str, tags: Mapping[str, str], started: float) -> str:
        """The id of the run with exactly these `fedcore.*` tags, made where missing."""
        wanted = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items() if k.startswith("fedcore."))
        found = self.client.search_runs([self.experiment], wanted, max_results=1)
        if found:
            return str(found[0].info.run_id)
        return str(self.client.create_run(self.experiment, int(started * 1000), dict(tags), name).info.run_id)

    def describe(self, run: str, *, params: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None) -> None:
        """Params and tags of a run."""
        from mlflow.entities import Param, RunTag

        self.client.log_batch(
            run,
            params=[Param(k, v) for k, v in (params or {}).items()],
            tags=[RunTag(k, v) for k, v in (tags or {}).items()],
        )

    def measure(self, run: str, points: Iterable[tuple[str, float, int]], at: float) -> None:
        """Metrics as names, values and steps; with the same time `at` they collapse with those logged before."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, int(at * 1000), step) for name, value, step in points]
        for i in range(0, len(metrics), BATCH):
            self.client.log_batch(run, metrics=metrics[i : i + BATCH])

    def keep(self, run: str, adapters: Sequence[Versioned]) -> None:
        """Every adapter as a logged model of the run and a version of its registered model, unless the run has it."""
        had = {(v.name, v.tags.get("sha256")) for v in self.versions(run)}
        missing = [a for a in adapters if (a.registered, a.tags["sha256"]) not in had]
        if not missing:
            return
        begun = {(m.name, m.tags.get("sha256")): m for m in self._logged(run)}
        known = set(self._registered(missing[0].registered.split(".")[0]))
        for adapter in missing:
            model = begun.get((adapter.title, adapter.tags["sha256"])) or self.client.create_logged_model(
                self.experiment, adapter.title, run, adapter.tags, model_type="lora"
            )
            with tempfile.TemporaryDirectory() as scratch:
                adapter.write(Path(scratch))
                (Path(scratch) / "lineage.json").write_text(json.dumps(adapter.tags, indent=1, sort_keys=True))
                self.client.log_model_artifacts(model.model_id, scratch)
            self.client.finalize_logged_model(model.model_id, "READY")
            if adapter.registered not in known:
                self.client.create_registered_model(adapter.registered)
                known.add(adapter.registered)
            self.client.create_model_version(adapter.registered, model.artifact_location, run, adapter.tags, model_id=model.model_id)

    def crown(self, name: str, run: str, best: Mapping[str, str]) -> None:
        """Let the alias of each registered model of the federation point to its version in `run`; `best` is name → SHA-256."""
        now = {registered: dict(model.aliases).get(CHAMPION) for registered, model in self._registered(name).items()}
        for registered, version in now.items():
            if version is not None and registered not in best:  # left out of the best round
                self.client.delete_registered_model_alias(registered, CHAMPION)
        for version in self.versions(run):
            if best.get(version.name) == version.tags.get("sha256") and str(now[version.name]) != str(version.version):
                self.client.set_registered_model_alias(version.name, CHAMPION, version.version)

    def versions(self, run: str) -> "Iterator[ModelVersion]":
        """The model versions that belong to a run."""
        return _pages(lambda token: self.client.search_model_versions(f"run_id='{run}'", page_token=token))

    def _logged(self, run: str) -> "Iterator[LoggedModel]":
        wanted = f"source_run_id = '{run}'"
        return _pages(lambda token: self.client.search_logged_models([self.experiment], wanted, page_token=token))

    def _registered(self, name: str) -> "dict[str, RegisteredModel]":
        """The federation's registered models by name."""
        found = _pages(lambda token: self.client.search_registered_models(f"name LIKE '{name}.%'", page_token=token))
        return {model.name: model for model in found if model.name.startswith(f"{name}.")}  # LIKE takes _ for any letter


@contextmanager
def prepared(home: Home) -> Iterator[None]:
    """Around a round's computation: meanwhile MLflow is imported and its database made, seconds that nobody has to wait for."""
    thread = Thread(target=_prepare, args=(home,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _prepare(home: Home) -> None:
    with suppress(Exception):  # publishing tells what is wrong
        import mlflow  # noqa: F401 takes four seconds

        if _is_database(home.tracking_uri):  # a server is asked when there is something to tell it: it may take minutes to answer
            connect(home)


def _is_database(uri: str) -> bool:
    """A database, whose artifacts we place; a server knows its own place for them."""
    return "://" in uri and not uri.startswith("http")


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """All pages of a search of MLflow's."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def connect(home: Home) -> Tracking:
    """Our experiment, made where missing."""
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # what goes wrong is raised as well; it would log tracebacks
    logging.getLogger("alembic").setLevel(logging.WARNING)
    client = MlflowClient(home.tracking_uri, home.tracking_uri)
    own = _is_database(home.tracking_uri)
    if own:
        home.mlflow.mkdir(parents=True, exist_ok=True)
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return Tracking(client, str(found.experiment_id))
    artifacts = (home.mlflow / "artifacts").absolute().as_uri() if own else None
    return Tracking(client, client.create_experiment(EXPERIMENT, artifacts))
