"""Worker processes: they compute, hang alone, die alone."""

import os
from collections.abc import Iterator

import pytest

from data.home import CLIENTS, HOME, STORE
from tasks import _dispatch
from tasks._dispatch import WorkerFailed, in_worker
from tests.tasks import computations


@pytest.fixture(autouse=True, scope="module")
def closed_afterwards() -> Iterator[None]:
    yield
    _dispatch.close()


def test_a_computation_comes_back_from_another_process_with_one_thread() -> None:
    assert in_worker(computations.double, 21) == 42
    assert in_worker(computations.threads) == 1


def test_its_own_errors_come_back_as_they_are() -> None:
    with pytest.raises(TypeError):
        in_worker(computations.double, None)


def test_a_hanging_computation_is_ended_and_the_next_one_runs() -> None:
    with pytest.raises(WorkerFailed, match="did not finish within 1 s"):
        in_worker(computations.sleep, 60.0, timeout=1.0)
    assert in_worker(computations.double, 2) == 4


def test_a_dying_process_is_replaced() -> None:
    with pytest.raises(WorkerFailed, match="worker process died"):
        in_worker(computations.die)
    assert in_worker(computations.double, 3) == 6


@pytest.mark.parametrize("name", [HOME, STORE, CLIENTS])
def test_who_serves_another_side_has_processes_that_do(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """They keep the environment that they were started with: a second federation's would read the first one's clients."""
    for place in ("/one", "/other"):
        monkeypatch.setenv(name, place)
        assert in_worker(os.getenv, name) == place
    before = in_worker(os.getpid)
    assert before in {in_worker(os.getpid) for _ in range(20)}, "they stay where nothing changed"
