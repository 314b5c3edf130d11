"""The rounds of one federation, one after the other; each is published as soon as it is done."""

from typing import Any

from prefect import flow

from data.home import Home
from data.records import RoundRecord, bind, rounds
from data.results import write_results
from fedcore.config import Federation
from flows.progress import watcher
from flows.round import federated_round
from tasks.publish import publish


@flow(name="federated-training", flow_run_name="{name}")
def federated_training(name: str, config: dict[str, Any]) -> None:
    """Run every round up to `rounds`; what is in the store already is not computed again."""
    federation, home = Federation.model_validate(config), Home.current()
    bind(home.server(), federation)
    before: RoundRecord | None = None
    for number in range(1, federation.rounds + 1):
        watcher().stage(f"round {number} of {federation.rounds}", 0)
        before = federated_round(name, config, number, before)
        write_results(home, name)
        watcher().stage("publish", 1)
        publish(name, number, f"r{number}")
        watcher().step(f"{len(rounds(home.server(), name))} rounds in MLflow")
