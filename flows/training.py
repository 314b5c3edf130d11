"""The rounds of one federation, one after the other; each is published as soon as it is done."""

import logging
from pathlib import Path

from prefect import flow

from data.clients import remember_clients, serve
from data.federations import client_folder, read_federation
from data.home import Home
from data.journal import lacking, read_journal
from data.records import bind, bound, is_published, read_round, rounds
from data.results import write_results
from flows.progress import watcher
from flows.recovery import bury_the_dead
from flows.report import link
from flows.round import federated_round
from tasks._dispatch import close
from tasks.publish import publish

log = logging.getLogger("flows.training")


@flow(name="federated-training", flow_run_name="{name}")
def federated_training(name: str, file: str | None = None, add_rounds: int = 0) -> None:
    """Run every round of the run `name` that is not finished; finished rounds are history and stay as they are.

    `file` is the federation's YAML for a run that may not exist yet. `add_rounds` extends a run whose rounds are all
    finished, so that a schedule adds to it while a retry after a crash only goes on.

    Raises:
        ConfigError: there is no such run, or its name stands for another configuration.
        BusyError: another process is working on it.
        RoundFailed: too few clients came through in a round.
    """
    home = Home.current()
    with home.lock(name):
        try:
            if file is not None:
                federation = read_federation(Path(file), [], name)
                bind(home.server(), federation)
                if not federation.sites:
                    remember_clients(home, name, client_folder(Path(file)))
            extend(home, name, add_rounds)
            serve(home, name)
            bury_the_dead(name)
            for number in range(1, bound(home.server(), name).rounds + 1):
                one_round(home, name, number)
        finally:
            close()


def extend(home: Home, name: str, add_rounds: int) -> None:
    """Add rounds to a run that is complete."""
    federation = bound(home.server(), name)
    if add_rounds and len(rounds(home.server(), name)) >= federation.rounds:
        bind(home.server(), federation.model_copy(update={"rounds": federation.rounds + add_rounds}))


def one_round(home: Home, name: str, number: int) -> None:
    """Compute what is missing of a round and publish what is not published; training goes on when MLflow cannot be reached."""
    store, total = home.server(), bound(home.server(), name).rounds
    record = read_round(store, name, number)
    if record is None or lacking(store, read_journal(store, name, number)):
        watcher().stage(f"round {number} of {total}", 0)
        record = federated_round(name, number)
        write_results(home, name)
    if not is_published(store, name, record):
        watcher().stage("publish", 1)
        state = publish(name, number, f"r{number}", return_state=True)
        watcher().step(f"{len(rounds(store, name))} rounds in MLflow" if state.is_completed() else "failed: MLflow cannot be written")
        if state.is_completed():
            link(home, name, *state.result())
        else:
            log.warning("round %d is not in MLflow (%s); `fedcore publish %s` brings it there", number, state.message, name)
