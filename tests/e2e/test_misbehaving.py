"""Clients that raise, hang, or hand over rubbish: each is named with its reason everywhere people look, and the others go on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.e2e.conftest import CANARY, World, write_world

pytestmark = pytest.mark.slow
FAULTS = Path(__file__).parent / "faults"
REASONS = {
    "c01": ("raises", "RuntimeError in load_client; the client's errors.log tells more"),
    "c02": ("hangs", "did not finish within 30 s"),
    "c03": ("nan", "not finite"),
    "c04": ("shape", "expected"),
    "c05": ("old", "of the round before"),
}
SOUND = ("c06", "c07")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, base_folder: Path, server: dict[str, str]) -> Iterator[World]:
    """Two rounds with five clients that do wrong and two that do not."""
    bold, soft = ("openmoji", "bold black outlines"), ("streamline", "soft pastel")
    everybody = {c: (bold, soft)[i % 2] for i, c in enumerate((*REASONS, *SOUND))}
    made = write_world(tmp_path_factory.mktemp("misbehaving"), base_folder, everybody)
    misbehave = ",".join(f"{client}={kind}" for client, (kind, _) in REASONS.items())
    done = made.fedcore(
        *("run", str(made.file), "--set", "quorum=0.2", "--set", "client_timeout=30"),
        FEDCORE_MISBEHAVE=misbehave,
        PYTHONPATH=str(FAULTS),
        **server,
    )
    assert done.code == 0, done.output
    assert CANARY not in done.output
    for client, rounds in {"c02": 2, "c03": 2, "c04": 2, "c05": 1}.items():  # told once in each, whoever found it out
        told = [line for line in done.output.splitlines() if line.startswith((f"  {client} failed: ", f"  {client} refused: "))]
        assert len(told) == rounds, done.output
        assert all(REASONS[client][1] in line for line in told), told
    yield made


def assert_named(failed: dict[str, str], who: tuple[str, ...]) -> None:
    """Exactly these clients, each with its own reason."""
    assert sorted(failed) == sorted(who)
    for client in who:
        assert REASONS[client][1] in failed[client], failed[client]


def test_in_the_results(world: World) -> None:
    first, second = json.loads(world.fedcore("results", "demo", "--json").output)["rounds"]
    assert_named(first["clients_failed"], ("c01", "c02", "c03", "c04"))
    assert_named(second["clients_failed"], tuple(REASONS))
    # c05 came through in the first round, and stays in the cluster that it was in
    assert sorted(c for members in second["clusters"].values() for c in members) == ["c05", *SOUND]


def test_a_repair_gives_the_record_that_was(world: World, server: dict[str, str]) -> None:
    def record() -> dict[str, object]:
        found: dict[str, object] = json.loads((world.home / "server" / "runs" / "demo" / "round-0002.json").read_text())
        return {key: value for key, value in found.items() if key not in ("seconds", "finished")}

    before = record()
    done = world.fedcore("rerun", "demo", "--from", "cluster", "--round", "2", **server)
    assert done.code == 0, done.output
    assert record() == before


def test_in_mlflow(world: World) -> None:
    uri = f"sqlite:///{world.home / 'mlflow' / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name("fedcore")
    assert experiment is not None
    (second,) = client.search_runs([experiment.experiment_id], "tags.`fedcore.round` = '2'")
    assert_named(json.loads(second.data.tags["fedcore.failed"]), tuple(REASONS))


def test_in_prefect_s_report(world: World, server: dict[str, str]) -> None:
    with temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}), get_client(sync_client=True) as client:
        (report,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["demo-round-2"])))
    rows = {row["client"]: row["left out"] for row in json.loads(str(report.data))}
    assert_named({client: reason for client, reason in rows.items() if reason}, tuple(REASONS))
