"""Prefect and MLflow on a real PostgreSQL, as from the second machine on."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from tests.e2e.conftest import CLIENTS, write_world
from tests.e2e.servers import clean_environment, free_port, prefect_server, process

pytestmark = pytest.mark.slow


def binaries() -> Path:
    """Where PostgreSQL's programs lie; Debian keeps them off the path."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.fail("needs PostgreSQL with its contrib modules: `make test-slow` installs it, or apt-get install postgresql")
    return found[-1]


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A server of our own with two databases; their addresses by name."""
    programs, port = binaries(), free_port()
    lowered = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups") if os.geteuid() == 0 else ()  # it refuses root
    with tempfile.TemporaryDirectory() as place:
        if lowered:
            shutil.chown(place, "postgres", "postgres")
        data = Path(place) / "data"
        create = (*lowered, programs / "initdb", "--auth=trust", "--username=fedcore", "--no-sync", "--pgdata", data)
        subprocess.run(create, check=True, capture_output=True, cwd=place)
        serve = (*lowered, str(programs / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", "")
        with process(tmp_path / "postgresql.log", clean_environment(), *serve):
            address = f"postgresql://fedcore@127.0.0.1:{port}"
            with answering(f"{address}/postgres") as connection:
                connection.execute("CREATE DATABASE prefect")
                connection.execute("CREATE DATABASE mlflow")
            yield {name: f"{address}/{name}" for name in ("prefect", "mlflow")}


def answering(address: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection without transactions, as soon as the server answers."""
    end = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(address, autocommit=True)
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def rows(address: str, question: LiteralString) -> list[tuple[object, ...]]:
    """What a database answers."""
    with psycopg.connect(address) as connection:
        return connection.execute(question).fetchall()


def test_a_federation_leaves_its_runs_in_both_databases(postgresql: dict[str, str], tmp_path: Path, base_folder: Path) -> None:
    asynchronous = postgresql["prefect"].replace("postgresql://", "postgresql+asyncpg://")
    with prefect_server(tmp_path / "prefect", PREFECT_API_DATABASE_CONNECTION_URL=asynchronous) as api:
        world = write_world(tmp_path, base_folder)
        environment = {"PREFECT_API_URL": api, "MLFLOW_TRACKING_URI": postgresql["mlflow"]}
        done = world.fedcore("run", str(world.file), "--set", "rounds=1", **environment)
        assert done.code == 0, done.output
        assert "not in MLflow" not in done.output, done.output
    states = dict(rows(postgresql["prefect"], "SELECT name, state_type FROM flow_run"))  # type: ignore[arg-type]
    assert states == {"demo": "COMPLETED", "demo round 1": "COMPLETED"}
    models = {str(name) for (name,) in rows(postgresql["mlflow"], "SELECT DISTINCT name FROM model_versions")}
    assert {f"demo.client-{c}" for c in CLIENTS} < models
    assert not (tmp_path / "prefect" / "prefect.db").exists()
    assert not (world.home / "mlflow" / "mlflow.db").exists()
    assert (world.home / "mlflow" / "artifacts").is_dir()
