"""One federated round = one flow: what is missing of it is computed, reported and published."""

import logging

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from data.clients import serve
from data.home import Home
from data.journal import lacking, put_back, read_journal
from data.records import RoundRecord, bound, is_published, read_round, rounds
from data.results import write_results
from fedcore.errors import FedcoreError, RoundFailed
from flows.alone import alone
from flows.compute import compute_round
from flows.progress import watcher
from flows.report import link, live, report
from tasks._dispatch import workers
from tasks._tracking import prepared
from tasks.publish import publish

log = logging.getLogger("flows.round")


@flow(
    name="federated-round",
    flow_run_name="{name} round {number}",
    task_runner=ThreadPoolTaskRunner(max_workers=workers()),  # type: ignore[arg-type]
    validate_parameters=False,
)
def federated_round(name: str, number: int) -> RoundRecord:
    """Round `number` of the run `name`: what is missing of it is computed, and published; training goes on when MLflow cannot be reached.

    Raises:
        BusyError: another process is working on the run.
        ConfigError: there is no such run or round, or the round before it is not finished.
        RoundFailed: too few clients came through.
    """
    home = Home.current()
    with alone(home, name):
        serve(home, name)
        record = finished_round(home, name, number)
        if record is None:
            watcher().stage(f"round {number} of {bound(home.server(), name).rounds}", 0)
            with live(name, number), prepared(home):
                record = computed(home, name, number)
        write_results(home, name)
        if not is_published(home.server(), name, record):
            report(home, name, record)
            published(home, name, number)
        return record


def computed(home: Home, name: str, number: int) -> RoundRecord:
    """The round, computed; a finished one of which not everything can be computed again stays as it was, and so do its stages."""
    noted = read_journal(home.server(), name, number)
    try:
        return compute_round(home, name, number)
    except FedcoreError as error:
        record = read_round(home.server(), name, number)
        if record is None:
            raise
        put_back(home.server(), name, number, noted)
        if not isinstance(error, RoundFailed):
            raise
        watcher().stage("repair", 1)
        watcher().step(f"failed: {error}")
        log.warning("%s", error)
        return record


def finished_round(home: Home, name: str, number: int) -> RoundRecord | None:
    """The record of a round of which nothing is lost, or None."""
    record = read_round(home.server(), name, number)
    return None if record is None or lacking(home.server(), read_journal(home.server(), name, number)) else record


def settled(home: Home, name: str, number: int) -> bool:
    """Is there nothing left to do for this round?"""
    record = finished_round(home, name, number)
    return record is not None and is_published(home.server(), name, record)


def published(home: Home, name: str, number: int) -> None:
    """Bring a round to MLflow; where that fails, say so and go on."""
    watcher().stage("publish", 1)
    state = publish(name, number, f"r{number}", return_state=True)
    if state.is_completed():
        watcher().step(f"{len(rounds(home.server(), name))} rounds in MLflow")
        link(home, name, *state.result())
    else:
        watcher().step("failed: MLflow cannot be written")
        log.warning("round %d is not in MLflow (%s); `fedcore publish %s` brings it there", number, state.message, name)
