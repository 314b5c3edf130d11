"""kill -9 at every place of every stage, and databases and blobs lost: `resume` ends with the bits of an uninterrupted run."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.e2e.conftest import Ran, World, write_world
from tests.e2e.servers import prefect_server

pytestmark = pytest.mark.slow
FAULTS = Path(__file__).parent / "faults"
STAGES = ("encode", "start", "train", "cluster", "aggregate", "interact", "baseline", "gallery", "evaluate")
PLACES = ("before", "middle", "blobs", "manifest")


@dataclass(frozen=True)
class Bench:
    """A folder per attempt, all with the same inputs; one Prefect server for all of them."""

    root: Path
    base: Path
    api: str
    mlflow: Path

    def world(self, name: str) -> World:
        """The same federation's files in a folder of its own, with an empty database of MLflow's: making one takes seconds."""
        folder = self.root / name
        (folder / "runs" / "mlflow").mkdir(parents=True)
        shutil.copy(self.mlflow, folder / "runs" / "mlflow" / "mlflow.db")
        return write_world(folder, self.base)

    def fedcore(self, world: World, *arguments: str, fault: str = "", **environment: str) -> Ran:
        """A command in that folder; with a `fault`, see faults/sitecustomize.py."""
        if self.api:
            environment["PREFECT_API_URL"] = self.api
        if fault:
            environment |= {"FEDCORE_FAULT": f"{fault}:{world.root / 'struck'}", "PYTHONPATH": str(FAULTS)}
        return world.fedcore(*arguments, **environment)

    def run(self, world: World, fault: str = "") -> Ran:
        """The federation from its file: one round of 24 steps, enough for a checkpoint."""
        return self.fedcore(world, "run", str(world.file), "--set", "rounds=1", "--set", "training.steps=24", fault=fault)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("crashes")
    MlflowClient(f"sqlite:///{root / 'mlflow.db'}").search_experiments()
    with prefect_server(root / "prefect") as api:
        yield Bench(root, base_folder, api, root / "mlflow.db")


def outcome(world: World) -> str:
    """Everything that the last round's record says, without times."""
    record = json.loads((world.home / "server" / "runs" / "demo" / "round-0001.json").read_text())
    del record["seconds"], record["finished"]
    return json.dumps(record, sort_keys=True)


def computed(world: World) -> dict[str, float]:
    """When each finished job was computed."""
    found = (world.home / "server" / "manifests").rglob("*.json")
    return {f"{p.parent.name}/{p.stem}": json.loads(p.read_text())["finished"] for p in found}


@pytest.fixture(scope="module")
def whole(bench: Bench) -> World:
    """The uninterrupted run."""
    world = bench.world("whole")
    done = bench.run(world)
    assert done.code == 0, done.output
    return world


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("stage", STAGES)
def test_killed_and_resumed(bench: Bench, whole: World, stage: str, place: str) -> None:
    world = bench.world(f"{stage}-{place}")
    struck = bench.run(world, fault=f"{stage}:{place}")
    assert (world.root / "struck").exists(), struck.output
    assert struck.code == -9, struck.output
    before = computed(world)
    assert (f"{stage}/" in " ".join(before)) or place != "manifest"
    if place == "middle" and stage == "train":
        assert list((world.home / "clients").rglob("training-*.safetensors"))
    resumed = bench.fedcore(world, "resume", "demo")
    assert resumed.code == 0, resumed.output
    assert outcome(world) == outcome(whole)
    after = computed(world)
    assert {k: after[k] for k in before} == before  # nothing that was done is done again
    assert set(after) == set(computed(whole))


def test_with_prefect_s_database_lost(bench: Bench, whole: World) -> None:
    alone = Bench(bench.root / "alone", bench.base, "", bench.mlflow)  # no server: the run has a database of its own
    alone.root.mkdir()
    world = alone.world("prefect")
    alone.run(world, fault="aggregate:before")
    shutil.rmtree(world.home / "prefect")
    before = computed(world)
    resumed = alone.fedcore(world, "resume", "demo")
    assert resumed.code == 0, resumed.output
    assert outcome(world) == outcome(whole)
    assert {k: computed(world)[k] for k in before} == before


def test_with_mlflow_s_database_lost(bench: Bench, whole: World) -> None:
    world = bench.world("mlflow")
    shutil.copytree(whole.home, world.home, dirs_exist_ok=True)
    before = published(world)
    assert before
    (world.home / "mlflow" / "mlflow.db").unlink()
    done = bench.fedcore(world, "publish", "demo", "--rebuild")
    assert done.code == 0, done.output
    assert published(world) == before


def published(world: World) -> set[tuple[str, str, str]]:
    """Adapter versions in MLflow: model, round, sha256."""
    uri = f"sqlite:///{world.home / 'mlflow' / 'mlflow.db'}"
    return {(v.name, v.tags["round"], v.tags["sha256"]) for v in MlflowClient(uri, uri).search_model_versions()}


def test_with_a_blob_truncated(bench: Bench, whole: World) -> None:
    world = bench.world("blob")
    shutil.copytree(whole.home, world.home, dirs_exist_ok=True)
    record = json.loads(outcome(world))
    blob = world.home / "server" / record["clusters"]["0"]["adapter"]["uri"]
    content = blob.read_bytes()
    blob.write_bytes(content[: len(content) // 2])
    said = bench.fedcore(world, "resume", "demo", "--dry-run")
    assert "interact" in said.output
    assert bench.fedcore(world, "resume", "demo").code == 0
    assert blob.read_bytes() == content
    assert outcome(world) == outcome(whole)


def test_rerun_computes_the_stage_and_what_follows_from_it(bench: Bench, whole: World) -> None:
    world = bench.world("rerun")
    shutil.copytree(whole.home, world.home, dirs_exist_ok=True)
    shutil.copytree(whole.root / "demo", world.root / "demo", dirs_exist_ok=True)
    before = computed(world)
    said = bench.fedcore(world, "rerun", "demo", "--from", "train", "--client", "c02", "--dry-run")
    assert "train c02" in said.output
    assert "c01" not in said.output.split("train c02")[0]
    assert computed(world) == before
    done = bench.fedcore(world, "rerun", "demo", "--from", "train", "--client", "c02")
    assert done.code == 0, done.output
    after = computed(world)
    again = sorted(k.split("/")[0] for k in before if after[k] != before[k])
    assert again == sorted(["train", "aggregate", "interact", "gallery"] + ["evaluate"] * 4)
    assert outcome(world) == outcome(whole)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("resume", "nobody"), "there is no run 'nobody'"),
        (("rerun", "demo", "--from", "trian"), "has no stage 'trian'; it has encode"),
        (("rerun", "demo", "--from", "train", "--round", "7"), "has no round 7"),
        (("rerun", "demo", "--from", "train", "--client", "c99"), "has no client 'c99'"),
    ],
)
def test_wrong_wishes_are_answered_in_one_line(bench: Bench, whole: World, arguments: tuple[str, ...], answer: str) -> None:
    said = bench.fedcore(whole, *arguments)
    assert said.code == 2
    assert answer in said.output
