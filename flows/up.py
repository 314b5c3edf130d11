"""`fedcore up`: a Prefect server, MLflow's pages and local workers as one family of processes that ends with one Ctrl-C."""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import httpx
from honcho.manager import Manager
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

from data.home import PAGES, Home
from fedcore.errors import InputError
from flows.stuck import HEARTBEAT, crash_the_silent

HOST = "127.0.0.1"
POOLS = {"cpu": "coordination, clustering, aggregation", "gpu": "training, encoding, generation", "sites": "clients at sites, a queue each"}
QUEUES = {"high": 1, "default": 2, "backfill": 3}
START = 120  # seconds that a server may take to start
DEPLOYMENTS = Path(__file__).parent.parent / "prefect.yaml"
TEMPLATE = Path(__file__).parent / "job_templates" / "process.json"


def free(port: int) -> None:
    """Insist that nobody listens there.

    Raises:
        InputError: somebody does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise InputError(f"port {port} is taken; stop what listens there, or choose another one (--port, --mlflow-port)") from None


def gpus() -> list[str]:
    """The numbers of this machine's GPUs, one worker each; one nameless worker where there is none."""
    import torch

    return [str(i) for i in range(torch.cuda.device_count())] or [""]


def up(home: Home, port: int, mlflow_port: int) -> int:
    """Run everything until Ctrl-C or until a member of the family ends; returns the exit code.

    Raises:
        InputError: a port is taken.
    """
    free(port)
    free(mlflow_port)
    home.mlflow.mkdir(parents=True, exist_ok=True)
    server = {**os.environ, "PREFECT_SERVER_UI_API_URL": api(port)}
    member = {
        **os.environ,
        "PREFECT_API_URL": api(port),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
        **({} if os.environ.get("MLFLOW_TRACKING_URI") else {PAGES: f"http://{HOST}:{mlflow_port}"}),
    }
    manager = Manager()
    manager.add_process("prefect", _command("prefect", "server", "start", "--host", HOST, "--port", str(port)), env=server)
    database = f"sqlite:///{home.mlflow / 'mlflow.db'}"
    pages = _command("mlflow", "ui", "--host", HOST, "--port", str(mlflow_port), "--workers", "1", "--backend-store-uri", database)
    manager.add_process("mlflow", pages, env=server)
    manager.add_process("cpu", _command("flows.up", "cpu"), env=member)
    for gpu in gpus():
        manager.add_process(f"gpu{gpu}", _command("flows.up", "gpu"), env={**member, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})})
    manager.loop()
    return int(manager.returncode or 0)


def api(port: int) -> str:
    """Where Prefect's server answers."""
    return f"http://{HOST}:{port}/api"


def _command(module: str, *arguments: str) -> str:
    """A module of this Python as a shell command that leaves no shell behind."""
    return "exec " + shlex.join([sys.executable, "-m", module, *arguments])


def worker(pool: str) -> None:
    """Become a worker of `pool`, after the server is there; the worker of `cpu` first sees to pools and deployments."""
    wait_for_server(os.environ["PREFECT_API_URL"])
    if pool == "cpu":
        crash_the_silent()
        deploy()
    with get_client(sync_client=True) as client:
        wait_for_pool(client, pool)
    become_worker(pool, *(["--limit", "1"] if pool == "gpu" else []))


def become_worker(pool: str, *options: str) -> NoReturn:
    """Replace this process by a Prefect worker of that pool."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", *options]
    os.execv(command[0], command)


def wait_for_server(url: str) -> None:
    """Wait until it answers.

    Raises:
        InputError: it does not within two minutes.
    """
    end = time.monotonic() + START
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise InputError(f"no Prefect server answers at {url}; start one with `fedcore up` or `prefect server start`")


def wait_for_pool(client: SyncPrefectClient, pool: str) -> None:
    """Wait until whoever deploys has created the pool."""
    end = time.monotonic() + START
    while time.monotonic() < end and pool not in {p.name for p in client.read_work_pools()}:
        time.sleep(0.5)


def deploy() -> None:
    """Create the pools and their queues where they are missing, and deploy what prefect.yaml names.

    Raises:
        InputError: there is no prefect.yaml, or Prefect refuses it.
    """
    if not DEPLOYMENTS.exists():
        raise InputError(f"{DEPLOYMENTS} is missing; `fedcore up` needs a clone of the repository, installed with `pip install -e .`")
    with get_client(sync_client=True) as client:
        others = {p.name for p in client.read_work_pools() if p.type != "process"}
        for pool, what in POOLS.items():
            if pool in others:  # somebody has made it one of containers
                continue
            begin_in = None if pool == "sites" else Path.cwd()
            wanted = WorkPoolCreate(name=pool, type="process", description=what, base_job_template=job_template(begin_in))
            client.create_work_pool(wanted, overwrite=True)
            if pool != "sites":
                for queue, priority in QUEUES.items():
                    _queue(client, pool, queue, priority)
    arguments = ["--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
    done = subprocess.run([sys.executable, "-m", "prefect", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{DEPLOYMENTS} cannot be deployed: {(done.stderr or done.stdout).strip()[-2000:]}")


def job_template(begin_in: Path | None) -> dict[str, Any]:
    """How a pool starts its runs: in that folder, so that files are found as they are named there."""
    template: dict[str, Any] = json.loads(TEMPLATE.read_text())
    if begin_in is not None:
        template["variables"]["properties"]["working_dir"]["default"] = str(begin_in)
    return template


def _queue(client: SyncPrefectClient, pool: str, queue: str, priority: int) -> None:
    """Create a queue, or give the one that every pool begins with its priority."""
    try:
        client.create_work_queue(name=queue, work_pool_name=pool, priority=priority)
    except ObjectAlreadyExists:
        found = client.read_work_queue_by_name(queue, work_pool_name=pool)
        client.update_work_queue(found.id, priority=priority)


if __name__ == "__main__":
    try:
        worker(sys.argv[1])
    except InputError as error:
        sys.exit(f"error: {error}")
