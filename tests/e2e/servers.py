"""Real servers and workers on 127.0.0.1 for the length of a `with` block, each in a process group of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(**values: str) -> dict[str, str]:
    """The environment without our, Prefect's and MLflow's variables, and with `values`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "FEDCORE", "MLFLOW"))}
    return kept | {"COLUMNS": "160", **values}


@contextmanager
def process(log: Path, environment: Mapping[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in the background, its output in `log`; its whole group is stopped by pid at the end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        started = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield started
    finally:
        stop(started)


def stop(started: subprocess.Popen[bytes], *, at_once: bool = False) -> None:
    """End a process and its group: gently first, unless `at_once`."""
    for sign, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))[at_once:]:
        try:
            os.killpg(started.pid, sign)
            started.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def wait_for(url: str, seconds: float = 180.0) -> None:
    """Wait until `url` answers with success."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise TimeoutError(f"{url} does not answer")


@contextmanager
def prefect_server(home: Path, **settings: str) -> Iterator[str]:
    """A Prefect server with its database below `home`, unless `settings` name another; gives the address of its API."""
    port = free_port()
    environment = clean_environment(PREFECT_HOME=str(home), PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="true", **settings)
    command = (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with process(home / "server.log", environment, *command):
        wait_for(f"http://127.0.0.1:{port}/api/health")
        yield f"http://127.0.0.1:{port}/api"
