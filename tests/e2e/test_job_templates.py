"""The work pools' job templates, taken by a real Prefect server and rendered by the workers' own classes; no engine is needed for that."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.base import BaseJobConfiguration
from prefect.workers.process import ProcessJobConfiguration
from prefect_docker.worker import DockerWorkerJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from flows.deploy import POOLS
from flows.heartbeat import HEARTBEAT
from tests.e2e.servers import clean_environment, prefect_server

TEMPLATES = Path(__file__).parents[2] / "flows" / "job_templates"
KINDS = {"process": ProcessJobConfiguration, "docker": DockerWorkerJobConfiguration, "kubernetes": KubernetesWorkerJobConfiguration}
SHARED = {"store": "s3://bucket/prefix", "tracking_uri": "http://mlflow:5000"}


def rendered(kind: str, server: dict[str, str], values: dict[str, Any]) -> Any:
    """What a worker of that kind would start for a run with these job variables, in a pool made from the template."""
    template = json.loads((TEMPLATES / f"{kind}.json").read_text())

    async def ask() -> BaseJobConfiguration:
        async with get_client() as client:
            pool = WorkPoolCreate(name=kind, type=kind, base_job_template=template)
            kept = (await client.create_work_pool(pool, overwrite=True)).base_job_template
            configuration = await KINDS[kind].from_template_and_values(kept, values, client=client)
        configuration.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="shard"))
        return configuration

    with temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}):
        return asyncio.run(ask())


@pytest.mark.parametrize("kind", KINDS)
def test_every_variable_is_used_and_every_placeholder_is_declared(kind: str) -> None:
    template = json.loads((TEMPLATES / f"{kind}.json").read_text())
    declared = set(template["variables"]["properties"])
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(template["job_configuration"])))
    assert used == declared


@pytest.mark.parametrize("kind", KINDS)
def test_store_and_tracking_server_reach_the_run(kind: str, server: dict[str, str]) -> None:
    shared = rendered(kind, server, SHARED).env
    assert shared["FEDCORE_STORE"] == SHARED["store"]
    assert shared["MLFLOW_TRACKING_URI"] == SHARED["tracking_uri"]
    assert "FEDCORE_STORE" not in rendered(kind, server, {}).env  # the folder under FEDCORE_HOME then


def test_a_process_is_bound_to_its_gpu(server: dict[str, str]) -> None:
    assert rendered("process", server, {"gpu": "1"}).env["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_container_gets_the_image_its_memory_and_its_gpu(server: dict[str, str]) -> None:
    made = rendered("docker", server, {"image": "registry/fedcore:1", "memory": "16g"})
    assert (made.image, made.mem_limit) == ("registry/fedcore:1", "16g")
    assert made.container_create_kwargs == {"device_requests": []}
    gpu = [{"count": 1, "capabilities": [["gpu"]]}]
    assert rendered("docker", server, {"gpus": gpu}).container_create_kwargs == {"device_requests": gpu}


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_container_finds_the_client_files_that_are_mounted(kind: str, server: dict[str, str]) -> None:
    assert rendered(kind, server, {"clients": "/clients"}).env["FEDCORE_CLIENTS"] == "/clients"


@pytest.mark.parametrize("kind", KINDS)
def test_flow_runs_give_signs_of_life_as_often_as_the_watch_expects(kind: str, server: dict[str, str]) -> None:
    assert rendered(kind, server, {}).env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT)


def test_a_kubernetes_job_asks_for_its_gpu_and_takes_secrets(server: dict[str, str]) -> None:
    made = rendered("kubernetes", server, {**SHARED, "gpus": 2, "secret": "keys"})
    (container,) = made.job_manifest["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 2}
    assert container["envFrom"] == [{"secretRef": {"name": "keys", "optional": True}}]
    assert {"name": "FEDCORE_STORE", "value": SHARED["store"]} in container["env"]
    assert container["args"][0] == "prefect"


@pytest.mark.slow
def test_prefect_itself_deploys_everything_to_a_bare_server(tmp_path: Path) -> None:
    with prefect_server(tmp_path / "prefect") as api:
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(command, env=clean_environment(PREFECT_API_URL=api), capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
            assert {pool.name for pool in client.read_work_pools()} == set(POOLS)
            assert {d.name for d in client.read_deployments()} == {"federated-training", "federated-round", "train-shard", "site"}
