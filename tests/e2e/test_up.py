"""`fedcore up`: servers and workers come up, take a federation's work in shards, outlive a worker's death, and all end with one Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun, WorkerStatus
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import AwaitingRetry

from flows.heartbeat import HEARTBEAT
from flows.stuck import SILENCE
from tests.e2e.conftest import CLIENTS, World, write_world
from tests.e2e.servers import clean_environment, free_port, process, wait_for

pytestmark = pytest.mark.slow
DEPLOYMENTS = {"federated-training", "federated-round", "train-shard", "site"}


@dataclass(frozen=True)
class Family:
    """What `fedcore up` started: its first process, the addresses of Prefect's API and of MLflow's pages."""

    head: subprocess.Popen[bytes]
    world: World
    api: str
    mlflow: str

    def members(self) -> dict[int, str]:
        """Every living process that inherited this folder as its home, with its command line."""
        mark, found = f"FEDCORE_HOME={self.world.home}\0".encode(), {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has ended
                continue
        return found

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """A client of its Prefect server."""
        with temporary_settings({PREFECT_API_URL: self.api}), get_client(sync_client=True) as client:
            yield client


def until(true: Callable[[], bool], what: str, seconds: float = 180.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def ready(client: SyncPrefectClient) -> bool:
    """Are both pools served, and is everything deployed?"""
    pools = {p.name for p in client.read_work_pools()}
    if not {"cpu", "gpu", "sites"} <= pools or {d.name for d in client.read_deployments()} != DEPLOYMENTS:
        return False
    return all(any(w.status == WorkerStatus.ONLINE for w in client.read_workers_for_work_pool(p)) for p in ("cpu", "gpu"))


@contextmanager
def brought_up(folder: Path, base_folder: Path) -> Iterator[Family]:
    """`fedcore up` on free ports, ready to work."""
    world, port, mlflow_port = write_world(folder, base_folder), free_port(), free_port()
    values = yaml.safe_load(world.file.read_text())
    world.file.write_text(yaml.safe_dump({**values, "rounds": 1, "dispatch": "pool", "training": {"steps": 60, "batch": 4}}))
    command = [sys.executable, "-m", "flows.cli", "up", "--port", str(port), "--mlflow-port", str(mlflow_port)]
    with process(world.root / "up.log", clean_environment(FEDCORE_HOME=str(world.home)), *command) as head:
        family = Family(head, world, f"http://127.0.0.1:{port}/api", f"http://127.0.0.1:{mlflow_port}")
        wait_for(f"{family.api}/health")
        wait_for(family.mlflow)
        with family.client() as client:
            until(lambda: ready(client), "pools, deployments and workers")
        yield family


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Iterator[Family]:
    """One for most tests; the last of them ends it."""
    with brought_up(tmp_path_factory.mktemp("up"), base_folder) as family:
        yield family


def finished(world: World, stage: str) -> dict[str, float]:
    """The jobs of a stage that are done, with the time."""
    found = [p for p in (world.home / "server" / "manifests").rglob("*.json") if p.parent.name == stage]
    return {p.stem: json.loads(p.read_text())["finished"] for p in found}


def test_the_pool_takes_shards_and_a_worker_s_death_costs_only_what_was_not_done(family: Family) -> None:
    done_before: dict[str, float] = {}
    killed: list[int] = []

    def strike() -> None:
        until(lambda: bool(finished(family.world, "train")), "a first trained client", 400)
        for pid, command in family.members().items():
            if "flow-run execute" in command or "flow_runs" in command or "prefect.engine" in command:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        done_before.update(finished(family.world, "train"))

    striking = threading.Thread(target=strike)
    striking.start()
    done = family.world.fedcore("run", str(family.world.file), PREFECT_API_URL=family.api)
    striking.join()
    assert done.code == 0, done.output
    record = json.loads((family.world.home / "server" / "runs" / "demo" / "round-0001.json").read_text())
    assert {c: who["failed"] for c, who in record["clients"].items()} == dict.fromkeys(sorted(CLIENTS))
    after = finished(family.world, "train")
    assert killed
    assert 0 < len(done_before) < len(CLIENTS) == len(after)
    assert {key: after[key] for key in done_before} == done_before  # not done again
    with family.client() as client:
        assert "gallery gallery r1" in {run.name for run in client.read_flow_runs()}  # by a worker of the pool, not by the round itself


def test_a_deployment_adds_a_round_and_finds_files_where_up_was_started(family: Family) -> None:
    command = [sys.executable, "-m", "prefect", "deployment", "run", "federated-training/federated-training", "--watch"]
    parameters = ["-p", "name=demo", "-p", f"file={family.world.file}", "-p", "add_rounds=1"]
    environment = clean_environment(FEDCORE_HOME=str(family.world.home), PREFECT_API_URL=family.api)
    done = subprocess.run([*command, *parameters], env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + (family.world.root / "up.log").read_text()
    assert (family.world.home / "server" / "runs" / "demo" / "round-0002.json").exists()


def test_a_flow_run_that_falls_silent_is_marked_crashed_and_retry_finishes_it(family: Family) -> None:
    """Its worker is stopped, then the flow is killed: nobody is left who could say so but the server. Then somebody presses Retry."""
    command = [sys.executable, "-m", "prefect", "deployment", "run", "federated-training/federated-training"]
    file = family.world.root / "silent.yaml"  # other work than the runs before, and long enough to be struck in the midst of it
    values = yaml.safe_load(family.world.file.read_text())
    file.write_text(yaml.safe_dump({**values, "seed": 7, "dispatch": "inline", "training": {"steps": 600, "batch": 4}}))
    (family.world.root / "silent").symlink_to(family.world.root / "demo")
    parameters = ["-p", "name=silent", "-p", f"file={file}"]
    environment = clean_environment(FEDCORE_HOME=str(family.world.home), PREFECT_API_URL=family.api)
    subprocess.run([*command, *parameters], env=environment, capture_output=True, check=True)

    def running() -> list[FlowRun]:
        with family.client() as client:
            return [r for r in client.read_flow_runs() if r.name == "silent" and r.state is not None and r.state.is_running()]

    until(lambda: bool(running()), "the flow runs")
    (run,) = running()
    time.sleep(HEARTBEAT + 5)  # it must have given a sign of life
    (worker,) = [pid for pid, line in family.members().items() if "worker start --pool cpu" in line]
    os.kill(worker, signal.SIGSTOP)
    for pid, line in family.members().items():
        if "prefect.engine" in line or "flow-run execute" in line:
            os.kill(pid, signal.SIGKILL)

    def crashed() -> bool:
        with family.client() as client:
            state = client.read_flow_run(run.id).state
        return state is not None and state.is_crashed()

    try:
        until(crashed, "it is marked crashed", SILENCE.seconds + 120)
    finally:
        os.kill(worker, signal.SIGCONT)
    before = finished(family.world, "train") | finished(family.world, "encode")

    time.sleep(15)  # the worker, going on, sees its child dead as well; whether its report still counts is Prefect's affair
    with family.client() as client:
        client.set_flow_run_state(run.id, AwaitingRetry())  # what the button in Prefect's pages does

    def completed() -> bool:
        with family.client() as client:
            state = client.read_flow_run(run.id).state
        return state is not None and state.is_completed()

    until(completed, "the retried run completes", 400)
    assert (family.world.home / "server" / "runs" / "silent" / "round-0001.json").exists()
    after = finished(family.world, "train") | finished(family.world, "encode")
    assert before
    assert {key: after[key] for key in before} == before


def test_a_worker_that_is_killed_starts_again_and_takes_nothing_down(family: Family) -> None:
    def workers() -> list[int]:
        return [pid for pid, line in family.members().items() if "worker start --pool gpu" in line]

    (before,) = workers()
    os.kill(before, signal.SIGKILL)
    until(lambda: workers() not in ([], [before]), "there is another worker")
    assert httpx.get(f"{family.api}/health").is_success
    assert httpx.get(family.mlflow).is_success


def test_what_was_changed_in_prefect_s_pages_stays(family: Family) -> None:
    with family.client() as client:
        (training,) = [d for d in client.read_deployments() if d.name == "federated-training"]
        (nightly,) = training.schedules
        assert not nightly.active  # as it is shipped
        client.update_deployment_schedule(training.id, nightly.id, active=True)
        client.update_work_pool("gpu", WorkPoolUpdate(concurrency_limit=3))
    again = family.world.fedcore("deploy", PREFECT_API_URL=family.api)
    assert again.code == 0, again.output
    with family.client() as client:
        (nightly,) = client.read_deployment(training.id).schedules
        assert nightly.active
        client.update_deployment_schedule(training.id, nightly.id, active=False)
        assert client.read_work_pool("gpu").concurrency_limit == 3
        assert {q.name: q.priority for q in client.read_work_queues(work_pool_name="cpu")} == {"high": 1, "default": 2, "backfill": 3}
        assert training.global_concurrency_limit is not None
        assert training.global_concurrency_limit.limit == 1


def test_one_ctrl_c_ends_all_of_it_in_the_midst_of_a_run(family: Family) -> None:
    command = [sys.executable, "-m", "prefect", "deployment", "run", "federated-training/federated-training"]
    parameters = ["-p", "name=silent", "-p", f"file={family.world.root / 'silent.yaml'}", "-p", "add_rounds=1"]
    environment = clean_environment(FEDCORE_HOME=str(family.world.home), PREFECT_API_URL=family.api)
    subprocess.run([*command, *parameters], env=environment, capture_output=True, check=True)
    until(lambda: any("spawn_main" in line for line in family.members().values()), "clients are training")
    assert len(family.members()) >= 8
    os.kill(family.head.pid, signal.SIGINT)
    family.head.wait(90)
    until(lambda: not family.members(), f"no process is left: {family.members()}", 30)


def test_a_closed_terminal_ends_all_of_it_even_where_a_member_hangs(tmp_path: Path, base_folder: Path) -> None:
    with brought_up(tmp_path, base_folder) as family:
        (worker,) = [pid for pid, line in family.members().items() if "worker start --pool gpu" in line]
        os.kill(worker, signal.SIGSTOP)
        os.kill(family.head.pid, signal.SIGHUP)
        family.head.wait(90)
        until(lambda: not family.members(), f"no process is left: {family.members()}", 30)
