"""The rounds of one federation, one after the other."""

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from data.clients import remember_clients
from data.federations import client_folder, read_federation
from data.home import Home
from data.records import bind, bound, extend
from data.results import write_results
from flows.alone import alone
from flows.round import federated_round, settled


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
    with alone(home, name):
        if file is not None:
            federation = read_federation(Path(file), [], name)
            bind(home.server(), federation)
            if not federation.sites:
                remember_clients(home, name, client_folder(Path(file)))
        extend(home.server(), name, add_rounds, by=str(flow_run.id))
        for number in range(1, bound(home.server(), name).rounds + 1):
            if not settled(home, name, number):
                federated_round(name, number)
        write_results(home, name)
