"""Becomes a worker of Prefect's, once there is a server and a pool to serve: `python -m flows.worker gpu --limit 1`."""

import os
import sys
import time
from typing import NoReturn

import httpx
from prefect.client.orchestration import get_client

from fedcore.errors import InputError

START = 120  # seconds that a server may take to start


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


def wait_for_pool(pool: str) -> None:
    """Wait until whoever deploys has created the pool; a worker would create one of its own making."""
    end = time.monotonic() + START
    with get_client(sync_client=True) as client:
        while time.monotonic() < end and pool not in {p.name for p in client.read_work_pools()}:
            time.sleep(0.5)


if __name__ == "__main__":
    wait_for_server(os.environ["PREFECT_API_URL"])
    wait_for_pool(sys.argv[1])
    become_worker(*sys.argv[1:])
