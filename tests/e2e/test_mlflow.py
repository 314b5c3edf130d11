"""What a federation leaves in MLflow: runs, metrics by step, adapters as versions; and that publishing again adds nothing."""

import sqlite3
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from peft import LoraConfig

from data.records import rounds
from data.store import Store
from tests.e2e.conftest import CLIENTS, Ran, World

TABLES = ("runs", "metrics", "params", "tags", "logged_models", "model_versions", "registered_model_aliases")


def client(world: World) -> MlflowClient:
    uri = f"sqlite:///{world.home / 'mlflow' / 'mlflow.db'}"
    return MlflowClient(uri, uri)


def runs(world: World) -> list[Run]:
    experiment = client(world).get_experiment_by_name("fedcore")
    assert experiment is not None
    return list(client(world).search_runs([experiment.experiment_id]))


def parent(world: World) -> Run:
    (found,) = [r for r in runs(world) if r.data.tags["fedcore.round"] == "all"]
    return found


def test_one_parent_run_and_one_child_a_round(ran: Ran, world: World) -> None:
    top = parent(world)
    children = [r for r in runs(world) if r.data.tags.get("mlflow.parentRunId") == top.info.run_id]
    assert sorted(r.data.tags["fedcore.round"] for r in children)[:2] == ["1", "2"]
    assert top.data.params["training.steps"] == "4"
    assert [m.step for m in client(world).get_metric_history(top.info.run_id, "mean_loss_personal")][:2] == [1, 2]


def test_a_round_has_each_clients_loss_over_its_steps(ran: Ran, world: World) -> None:
    (second,) = [r for r in runs(world) if r.data.tags["fedcore.round"] == "2"]
    account = rounds(Store(world.home / "server"), "demo")[1].clients["c01"].training
    assert account is not None
    points = client(world).get_metric_history(second.info.run_id, "training/c01")
    assert [(p.step, p.value) for p in points] == list(enumerate(account.curve, start=1))
    assert len(points) == 4


def test_every_adapter_is_a_version_that_peft_can_read(ran: Ran, world: World, tmp_path: Path) -> None:
    mlflow = client(world)
    for owner in [f"client-{c}" for c in CLIENTS] + ["cluster-0"]:
        versions = mlflow.search_model_versions(f"name='demo.{owner}'")
        assert {"1", "2"} <= {v.tags["round"] for v in versions}
        champion = mlflow.get_model_version_by_alias(f"demo.{owner}", "champion")
        assert champion.tags["round"] == parent(world).data.tags["fedcore.champion"]
    folder = mlflow.get_model_version("demo.client-c01", "1").source.removeprefix("file://")
    config = LoraConfig.from_pretrained(folder)
    assert config.r == 4
    assert (Path(folder) / "adapter_model.safetensors").stat().st_size > 0
    assert (Path(folder) / "lineage.json").exists()


def test_the_run_keeps_the_gallery_of_every_round(ran: Ran, world: World, tmp_path: Path) -> None:
    store, run = Store(world.home / "server"), parent(world).info.run_id
    for record in rounds(store, "demo"):
        kept = client(world).download_artifacts(run, f"gallery/round-{record.round:04d}.png", str(tmp_path))
        assert Path(kept).read_bytes() == store.get(record.gallery)


def test_publishing_again_adds_nothing(ran: Ran, world: World) -> None:
    from data.home import Home
    from tasks.publish import publish_run

    def files() -> list[str]:
        return sorted(str(p) for p in (world.home / "mlflow" / "artifacts").rglob("*"))

    def counts() -> dict[str, int]:
        with sqlite3.connect(world.home / "mlflow" / "mlflow.db") as database:
            return {t: database.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0] for t in TABLES}  # noqa: S608 fixed names

    before, files_before = counts(), files()
    publish_run(Home(world.home), "demo")
    assert counts() == before
    assert files() == files_before
    assert min(before.values()) > 0
