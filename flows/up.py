"""`fedcore up`: a Prefect server, MLflow's pages and local workers under one supervisor that restarts what dies, until Ctrl-C ends all."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn
from uuid import uuid4

import psutil

from data.home import PAGES, Home
from data.store import write_atomically
from fedcore.errors import InputError

HOST = "127.0.0.1"
MARK = "FEDCORE_UP"
"""Every process of a family carries the family's own value of this variable, so that none is forgotten at the end."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill`, a terminal that is closed."""
PATIENCE = 10  # seconds that a member may take to end


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


def api(port: int) -> str:
    """Where Prefect's server answers."""
    return f"http://{HOST}:{port}/api"


def members(home: Home, port: int, mlflow_port: int) -> dict[str, list[str]]:
    """The family's processes by name: modules of this Python and their arguments."""
    database = f"sqlite:///{home.mlflow / 'mlflow.db'}"
    kept = ["--backend-store-uri", database, "--artifacts-destination", str(home.mlflow / "artifacts")]
    return {
        "prefect": ["prefect", "server", "start", "--host", HOST, "--port", str(port)],
        "mlflow": ["mlflow", "ui", "--host", HOST, "--port", str(mlflow_port), "--workers", "1", *kept],
        "cpu": ["flows.worker", "cpu"],
        **{f"gpu{gpu}": ["flows.worker", "gpu", "--limit", "1"] for gpu in gpus()},
    }


def supervisor_file(family: Mapping[str, list[str]], logs: Path) -> str:
    """The supervisor's configuration: each member restarts when it dies, and writes a log of its own."""
    lines = ["[supervisord]", "nodaemon=true", f"logfile={logs}/supervisor.log", f"pidfile={logs}/supervisor.pid"]
    lines += ["user=root"] if os.geteuid() == 0 else []  # it warns otherwise
    for name, command in family.items():
        gpu = name.removeprefix("gpu") if name.startswith("gpu") else ""
        lines += [
            f"[program:{name}]",
            "command=" + shlex.join([sys.executable, "-m", *command]),
            *([f"environment=CUDA_VISIBLE_DEVICES={gpu}"] if gpu else []),
            "autorestart=true",
            "stopasgroup=true",
            "killasgroup=true",
            f"stopwaitsecs={PATIENCE}",
            "redirect_stderr=true",
            f"stdout_logfile={logs}/{name}.log",
        ]
    lines += ["[group:fedcore]", f"programs={','.join(family)}"]  # members of one group are stopped side by side
    return "\n".join(lines).replace("%", "%%") + "\n"


def up(home: Home, port: int, mlflow_port: int) -> int:
    """Run everything until Ctrl-C; returns the exit code.

    Raises:
        InputError: a port is taken.
    """
    free(port)
    free(mlflow_port)
    home.mlflow.mkdir(parents=True, exist_ok=True)
    logs = home.root / "logs"
    write_atomically(logs / "supervisor.conf", supervisor_file(members(home, port, mlflow_port), logs).encode())
    environment = {
        **os.environ,
        MARK: uuid4().hex,
        "PREFECT_API_URL": api(port),
        "PREFECT_SERVER_UI_API_URL": api(port),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        **({} if os.environ.get("MLFLOW_TRACKING_URI") else {PAGES: f"http://{HOST}:{mlflow_port}"}),
    }
    for number in ENDING:  # whoever was started in the background ignores the first one otherwise
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # `nohup` means it
            signal.signal(number, _interrupt)
    supervisor = [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "--configuration", str(logs / "supervisor.conf")]
    family = subprocess.Popen(supervisor, env=environment, start_new_session=True)
    try:
        deployed = subprocess.run([sys.executable, "-m", "flows.cli", "deploy"], env=environment, start_new_session=True, check=False)
        return deployed.returncode or family.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        end(family, environment[MARK])


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def end(family: "subprocess.Popen[bytes]", mark: str) -> None:
    """End the supervisor with its members, then the flow runs that workers left: they lead sessions of their own."""
    for number in ENDING:  # a second Ctrl-C must not leave half of them behind
        signal.signal(number, signal.SIG_IGN)
    family.terminate()
    family.wait()
    while left := [p for p in psutil.process_iter() if p.pid != os.getpid() and _mark_of(p) == mark]:  # the dying may still start some
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(left, timeout=PATIENCE)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=PATIENCE)


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except psutil.Error:  # another user's, or it has ended
        return None
