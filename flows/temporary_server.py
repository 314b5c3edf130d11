"""Where no Prefect server is named, Prefect starts one for the length of the process; it must not outlive it."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

PATIENCE = 120
"""Seconds that a server may take to start: on a machine that has other work, Prefect's twenty are too few."""

WATCH = 'cat >/dev/null; kill "$0"'
"""Waits until nobody can write to it any more, which is when the process that started it has ended, however it ended."""


@contextmanager
def temporary_server() -> Iterator[None]:
    """Around everything that talks to Prefect: a temporary server is stopped even where this process is killed.

    It would go on for ever, and write to the next one's database. Flow runs give it no signs of life, which nobody would
    miss and whose thread takes up to a second to end.
    """
    if PREFECT_API_URL.value():
        yield
        return
    Thread(target=_watch, daemon=True).start()
    patience = max(PATIENCE, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: patience}):
        yield


def _watch() -> None:
    """Start the watcher as soon as there is a server."""
    server = SubprocessASGIServer()
    while server.server_process is None:
        time.sleep(0.05)
    command = ["sh", "-c", WATCH, str(server.server_process.pid)]
    nowhere = subprocess.DEVNULL
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True)
    watcher.wait()  # keeps its standard input open
