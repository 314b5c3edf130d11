"""What a Prefect server needs before rounds can be started from its pages: pools, queues, deployments, the watch over silent runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectAlreadyExists

from fedcore.errors import InputError
from flows.stuck import crash_the_silent

POOLS = {"cpu": "coordination, clustering, aggregation", "gpu": "training, encoding, generation", "sites": "clients at sites, a queue each"}
QUEUES = {"high": 1, "default": 2, "backfill": 3}
DEPLOYMENTS = Path(__file__).parent.parent / "prefect.yaml"
TEMPLATE = Path(__file__).parent / "job_templates" / "process.json"


def deploy(begin_in: Path | None) -> None:
    """Create what is missing and deploy what prefect.yaml names; what people changed in Prefect's pages stays.

    `begin_in` is the folder that process workers start flow runs in, so that files are found as they are named there.

    Raises:
        InputError: there is no prefect.yaml, or Prefect refuses it.
    """
    if not DEPLOYMENTS.exists():
        raise InputError("is missing; deploying needs a clone of the repository, installed with `pip install -e .`", at=DEPLOYMENTS)
    with get_client(sync_client=True) as client:
        crash_the_silent()
        there = _there(client)
        for pool in POOLS:
            _pool(client, pool, there.get(pool), None if pool == "sites" else begin_in)
        running = _active_schedules(client)
        arguments = ["--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS)]
        done = subprocess.run([sys.executable, "-m", "prefect", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"cannot be deployed: {(done.stderr or done.stdout).strip()[-2000:]}", at=DEPLOYMENTS)
        for deployment, schedule in _schedules(client):
            if schedule.slug in running.get(deployment, ()):
                client.update_deployment_schedule(deployment, schedule.id, active=True)


def missing_pools(begin_in: Path) -> None:
    """Create the pools that the server lacks; the others stay as they are."""
    with get_client(sync_client=True) as client:
        there = _there(client)
        for pool in sorted(set(POOLS) - set(there)):
            _pool(client, pool, None, None if pool == "sites" else begin_in)


def _there(client: SyncPrefectClient) -> dict[str, WorkPool]:
    return {pool.name: pool for pool in client.read_work_pools()}


def _pool(client: SyncPrefectClient, name: str, there: WorkPool | None, begin_in: Path | None) -> None:
    """Create a pool of processes with its queues; one that is there only learns where its runs begin, one of containers nothing."""
    if there is None:
        wanted = WorkPoolCreate(name=name, type="process", description=POOLS[name], base_job_template=job_template(begin_in))
        client.create_work_pool(wanted)
    elif there.type == "process" and begin_in is not None:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=_beginning(there.base_job_template, begin_in)))
    if name != "sites":
        for queue, priority in QUEUES.items():
            _queue(client, name, queue, priority)


def job_template(begin_in: Path | None) -> dict[str, Any]:
    """How a pool of processes starts its runs."""
    template: dict[str, Any] = json.loads(TEMPLATE.read_text())
    return template if begin_in is None else _beginning(template, begin_in)


def _beginning(template: dict[str, Any], folder: Path) -> dict[str, Any]:
    template["variables"]["properties"].setdefault("working_dir", {})["default"] = str(folder)
    return template


def _queue(client: SyncPrefectClient, pool: str, queue: str, priority: int) -> None:
    """Create a queue, or give the one that every pool begins with its priority."""
    try:
        client.create_work_queue(name=queue, work_pool_name=pool, priority=priority)
    except ObjectAlreadyExists:
        found = client.read_work_queue_by_name(queue, work_pool_name=pool)
        client.update_work_queue(found.id, priority=priority)


def _schedules(client: SyncPrefectClient) -> list[tuple[UUID, Any]]:
    """Every deployment's schedules."""
    return [(deployment.id, schedule) for deployment in client.read_deployments() for schedule in deployment.schedules]


def _active_schedules(client: SyncPrefectClient) -> dict[UUID, set[str]]:
    """The schedules that somebody switched on; deploying would switch them off."""
    active: dict[UUID, set[str]] = {}
    for deployment, schedule in _schedules(client):
        if schedule.active and schedule.slug:
            active.setdefault(deployment, set()).add(schedule.slug)
    return active
