"""kill -9 at every place of every stage, and databases and blobs lost: `resume` ends with the bits of an uninterrupted run."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from mlflow import MlflowClient

from data.tables import write_table
from tasks.train import SAVE_EVERY
from tests.e2e.conftest import Ran, World, write_world
from tests.e2e.servers import clean_environment, prefect_server, process

pytestmark = pytest.mark.slow
FAULTS = Path(__file__).parent / "faults"
STAGES = ("encode", "start", "train", "cluster", "aggregate", "interact", "baseline", "gallery", "evaluate", "publish")
PLACES = ("before", "middle", "blobs", "manifest")


@dataclass(frozen=True)
class Bench:
    """A folder per attempt, all with the same inputs; one Prefect server for all of them."""

    root: Path
    base: Path
    api: str
    mlflow: Path

    def world(self, name: str) -> World:
        """The same federation's files in a folder of its own, with an empty database of MLflow's: making one takes seconds.

        One round of 24 steps, enough for a checkpoint.
        """
        folder = self.root / name
        (folder / "runs" / "mlflow").mkdir(parents=True)
        shutil.copy(self.mlflow, folder / "runs" / "mlflow" / "mlflow.db")
        world = write_world(folder, self.base)
        values = yaml.safe_load(world.file.read_text())
        world.file.write_text(yaml.safe_dump({**values, "rounds": 1, "training": {"steps": 24, "batch": 4}}))
        return world

    def environment(self, world: World, fault: str) -> dict[str, str]:
        """For a process of that world's; with a `fault`, see faults/sitecustomize.py."""
        values = {"PREFECT_API_URL": self.api} if self.api else {}
        if fault:
            values |= {"FEDCORE_FAULT": f"{fault}:{world.root / 'struck'}", "PYTHONPATH": str(FAULTS)}
        return values

    def fedcore(self, world: World, *arguments: str, fault: str = "", **environment: str) -> Ran:
        """A command in that folder."""
        return world.fedcore(*arguments, **self.environment(world, fault), **environment)

    def run(self, world: World, fault: str = "") -> Ran:
        """The federation from its file."""
        return self.fedcore(world, "run", str(world.file), fault=fault)

    def resume(self, world: World) -> Ran:
        """Go on, and note in `resumed` after how many steps each training does."""
        return self.fedcore(world, "resume", "demo", FEDCORE_RESUMED=str(world.root / "resumed"), PYTHONPATH=str(FAULTS))

    def run_by_a_worker(self, world: World, fault: str) -> None:
        """The same as a flow run that a worker of Prefect's starts; until that worker is dead."""
        own = {"FEDCORE_HOME": str(world.home), "PREFECT_WORKER_QUERY_SECONDS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        values = clean_environment(**own, **self.environment(world, fault))
        prefect = (sys.executable, "-m", "prefect")
        with process(world.root / "worker.log", values, *prefect, "worker", "start", "--pool", "cpu", "--type", "process") as worker:
            asked = [*prefect, "deployment", "run", "federated-training/federated-training", "-p", "name=demo", "-p", f"file={world.file}"]
            subprocess.run(asked, env=values, check=True, capture_output=True, timeout=120)
            assert worker.wait(300) == -9, (world.root / "worker.log").read_text()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("crashes")
    MlflowClient(f"sqlite:///{root / 'mlflow.db'}").search_experiments()
    with prefect_server(root / "prefect") as api:
        deploy = [sys.executable, "-c", "from flows.deploy import deploy; deploy(None)"]
        subprocess.run(deploy, env=clean_environment(PREFECT_API_URL=api), check=True, capture_output=True, timeout=180)
        yield Bench(root, base_folder, api, root / "mlflow.db")


def outcome(world: World, number: int = 1) -> str:
    """Everything that a round's record says, without times."""
    record = json.loads((world.home / "server" / "runs" / "demo" / f"round-{number:04}.json").read_text())
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


@pytest.mark.parametrize("who", ["flow", "all"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("stage", STAGES)
def test_killed_and_resumed(bench: Bench, whole: World, stage: str, place: str, who: str) -> None:
    world = bench.world(f"{stage}-{place}-{who}")
    if who == "flow":
        struck = bench.run(world, fault=f"{stage}:{place}:{who}")
        assert struck.code == -9, struck.output
    else:
        bench.run_by_a_worker(world, f"{stage}:{place}:{who}")
    assert (world.root / "struck").exists()
    before = computed(world)
    assert stage in {job.split("/")[0] for job in before} or place != "manifest" or stage == "publish"
    if place == "middle" and stage == "train":
        assert list((world.home / "clients").rglob("training-*.safetensors"))
    resumed = bench.resume(world)
    assert resumed.code == 0, resumed.output
    assert outcome(world) == outcome(whole)
    if (place, stage, who) == ("middle", "train", "all"):  # a worker whose flow is killed may still finish its client
        assert max(map(int, (world.root / "resumed").read_text().split())) == SAVE_EVERY  # of 24 steps, four were left
    after = computed(world)
    assert {k: after[k] for k in before} == before  # nothing that was done is done again
    assert set(after) == set(computed(whole))
    assert published(world) == published(whole)
    assert not running(bench.api)


def running(api: str) -> list[str]:
    """The names of flow runs that Prefect takes to be alive."""
    wanted = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}}
    found = httpx.post(f"{api}/flow_runs/filter", json=wanted).raise_for_status().json()
    return [run["name"] for run in found]


@pytest.fixture(scope="module")
def without_one(bench: Bench) -> World:
    """A first round that one client missed; for the second it is there."""
    world = bench.world("without-one")
    table = world.root / "demo" / "c05.parquet"
    table.rename(world.root / "c05.parquet")
    write_table(table, [(b"\x89PNG no picture", "cat", None)])
    done = bench.run(world)
    assert done.code == 0, done.output
    (world.root / "c05.parquet").replace(table)
    return world


def again(bench: Bench, world: World, name: str) -> World:
    """A copy of a world in a folder of its own."""
    copy = bench.world(name)
    shutil.copytree(world.home, copy.home, dirs_exist_ok=True)
    return copy


@pytest.fixture(scope="module")
def joined(bench: Bench, without_one: World) -> World:
    """The uninterrupted second round, which the client joins as a newcomer."""
    world = again(bench, without_one, "joined")
    done = bench.fedcore(world, "run", str(world.file), "--set", "rounds=2")
    assert done.code == 0, done.output
    return world


@pytest.mark.parametrize("place", PLACES)
def test_killed_while_a_newcomer_is_placed(bench: Bench, without_one: World, joined: World, place: str) -> None:
    world = again(bench, without_one, f"assign-{place}")
    struck = bench.fedcore(world, "run", str(world.file), "--set", "rounds=2", fault=f"assign:{place}:flow")
    assert struck.code == -9, struck.output
    before = computed(world)
    resumed = bench.fedcore(world, "resume", "demo")
    assert resumed.code == 0, resumed.output
    assert outcome(world, 2) == outcome(joined, 2)
    assert {k: computed(world)[k] for k in before} == before
    assert published(world) == published(joined)


def test_with_prefect_s_database_lost(bench: Bench, whole: World) -> None:
    alone = Bench(bench.root / "alone", bench.base, "", bench.mlflow)  # no server: the run has a database of its own
    alone.root.mkdir()
    world = alone.world("prefect")
    alone.run(world, fault="aggregate:before:flow")
    shutil.rmtree(world.home / "prefect")
    before = computed(world)
    resumed = alone.fedcore(world, "resume", "demo")
    assert resumed.code == 0, resumed.output
    assert outcome(world) == outcome(whole)
    assert {k: computed(world)[k] for k in before} == before


def test_with_mlflow_s_database_lost(bench: Bench, whole: World) -> None:
    world = again(bench, whole, "mlflow")
    before = published(world)
    assert before
    (world.home / "mlflow" / "mlflow.db").unlink()
    done = bench.fedcore(world, "publish", "demo", "--rebuild")
    assert done.code == 0, done.output
    assert published(world) == before


def published(world: World) -> list[tuple[str, str, str, str]]:
    """Adapter versions in MLflow: model, round, sha256, aliases."""
    uri = f"sqlite:///{world.home / 'mlflow' / 'mlflow.db'}"
    mlflow = MlflowClient(uri, uri)
    champion = {m.name: dict(m.aliases).get("champion") for m in mlflow.search_registered_models()}
    return sorted((v.name, v.tags["round"], v.tags["sha256"], str(v.version == champion[v.name])) for v in mlflow.search_model_versions())


def test_with_a_blob_truncated(bench: Bench, whole: World) -> None:
    world = again(bench, whole, "blob")
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
    world = again(bench, whole, "rerun")
    before = computed(world)
    said = bench.fedcore(world, "rerun", "demo", "--from", "train", "--client", "c02", "--dry-run")
    assert "train c02" in said.output
    assert "c01" not in said.output.split("train c02")[0]
    assert computed(world) == before
    done = bench.fedcore(world, "rerun", "demo", "--from", "train", "--client", "c02")
    assert done.code == 0, done.output
    after = computed(world)
    redone = sorted(k.split("/")[0] for k in before if after[k] != before[k])
    assert redone == sorted(["train", "aggregate", "interact", "gallery"] + ["evaluate"] * 4)
    assert outcome(world) == outcome(whole)


@pytest.mark.parametrize(("stage", "changed"), [("encode", 1), ("encode", 3), ("train", 1), ("train", 3), ("evaluate", 1)])
def test_what_clients_cannot_do_again_stays_as_it_was(bench: Bench, whole: World, stage: str, changed: int) -> None:
    """Their wishes are others by now, be they few or most: the finished round keeps record and results, and later rounds go on."""
    world = again(bench, whole, f"changed-{stage}-{changed}")
    before, record = computed(world), outcome(world)
    (world.home / "clients" / "_folders" / "demo.txt").write_text(f"{world.root / 'demo'}\n")  # the copy's own files
    for client in sorted((world.root / "demo").glob("*.yaml"))[:changed]:
        client.write_text(yaml.safe_dump({**yaml.safe_load(client.read_text()), "statement": "watercolours"}))
    asked = bench.fedcore(world, "rerun", "demo", "--from", stage)
    assert asked.code == 1
    assert "c01" in asked.output
    assert "not everything could be computed again, and stays as it was" in asked.output
    assert set(computed(world)) == set(before)
    assert outcome(world) == record
    left = bench.fedcore(world, "resume", "demo", "--dry-run")
    assert "nothing to compute" in left.output
    done = bench.fedcore(world, "run", str(world.file), "--set", "rounds=2")
    assert done.code == 0, done.output
    assert json.loads(outcome(world, 2))["clients"]["c01"]["failed"] is None
    assert outcome(world) == record


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
