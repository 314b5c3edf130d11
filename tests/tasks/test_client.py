"""The border between the sides: a client's failure becomes an outcome, tells why, and quotes nothing of its data."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data.home import CLIENTS, HOME
from tasks import _dispatch
from tasks._client import run_clients
from tests.tasks.computations import ProbeJob, probe


@pytest.fixture(autouse=True)
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home and a clients' folder; worker processes start anew with them."""
    monkeypatch.setenv(HOME, str(tmp_path / "runs"))
    monkeypatch.setenv(CLIENTS, str(tmp_path / "secret-place"))
    _dispatch.close()
    yield tmp_path
    _dispatch.close()


def job(client: str, wish: str) -> ProbeJob:
    return ProbeJob(client=client, data="d", base="b", base_digest="x", wish=wish)


def test_one_client_s_failure_leaves_the_others_alone(sides: Path) -> None:
    wishes = {"c1": "work", "c2": "blurt", "c3": "hang", "c4": "die", "c5": "refuse", "c6": "work"}
    outcomes = {o.client: o for o in run_clients(probe, [job(c, w) for c, w in wishes.items()], timeout=3.0)}
    assert {c: o.status for c, o in outcomes.items()} == {c: "ok" if w == "work" else "failed" for c, w in wishes.items()}
    assert outcomes["c1"].manifest is not None
    assert outcomes["c1"].manifest.record == {"wish": "work"}
    assert outcomes["c3"].reason == "did not finish within 3 s"
    assert "process died" in str(outcomes["c4"].reason)
    assert outcomes["c5"].reason == "TableError: no column 'image'"  # the file's name may tell something


def test_a_stranger_s_error_text_stays_on_the_client_s_side(sides: Path) -> None:
    (outcome,) = run_clients(probe, [job("c2", "blurt")], timeout=10.0)
    assert outcome.reason == "ValueError in probe; the client's errors.log tells more"
    assert "quixotrope" in (sides / "runs" / "clients" / "c2" / "errors.log").read_text()
    assert not any("quixotrope" in f.read_text() for f in (sides / "runs" / "server").rglob("*") if f.is_file())


def test_a_finished_job_is_not_done_again(sides: Path) -> None:
    first, second = (run_clients(probe, [job("c1", "work")], timeout=10.0)[0].manifest for _ in range(2))
    assert first == second
