"""Runs: `run`, `resume`, `rerun`, `publish`."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app, console, insist_on_space, settings

STAGES = "encode, assign, start, train, cluster, aggregate, interact, divide, baseline, gallery, evaluate or publish"
"""In words what `flows.recovery.STAGES` holds, which takes Prefect's seconds to import."""

DEMO = Path("federations/demo.yaml")


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="The federation's YAML file.")] = DEMO,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a value, e.g. --set clustering.k=4. May be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run (default: the file's).")] = None,
) -> None:
    """Run a federation on this machine. What was computed before is not computed again."""
    settings()
    from data.base.folder import base_folder
    from data.clients import load_client, remember_clients
    from data.federations import client_folder, read_federation
    from data.home import Home
    from data.records import bind

    federation = read_federation(file, set_ or [], name)
    base_folder(federation.base)
    for client in () if federation.sites else federation.clients:
        federation.adapter.rank_of(load_client(client, client_folder(file)).device)
    with Home.current().lock(federation.name):
        bind(Home.current().server(), federation)
        if not federation.sites:
            remember_clients(Home.current(), federation.name, client_folder(file))
        console.print(
            f"[bold]{federation.name}[/]: {len(federation.clients)} clients, {federation.rounds} rounds; state under {Home.current().root}"
        )
        go_on(federation.name)


def go_on(name: str) -> None:
    """Compute what is left of a run, with progress, and show its table."""
    from data.clients import serve
    from data.home import Home
    from data.records import bound, rounds
    from fedcore.errors import InputError
    from tasks._dispatch import scheduled, warm, workers
    from tasks.estimate import Estimate, estimate

    federation = bound(Home.current().server(), name)
    if federation.away and "PREFECT_API_URL" not in os.environ:
        raise InputError(
            f"run '{name}': its clients compute elsewhere, through a Prefect server; start `fedcore up`, set PREFECT_API_URL to its API"
        )
    insist_on_space()
    console.print("starting the workflow engine …")
    needed: Callable[[], Estimate] | None = None
    if len(rounds(Home.current().server(), name)) < federation.rounds:
        if not federation.away:
            serve(Home.current(), name)  # worker processes keep the environment they were started with
            warm(federation)
        needed = scheduled(estimate, federation, workers())
    from flows.cli.outcomes import show
    from flows.display import Display
    from flows.progress import watched_by
    from flows.temporary_server import temporary_server
    from flows.training import federated_training

    with temporary_server():
        if needed is not None:
            found = needed()
            advice = None if federation.away else found.advice  # what is free elsewhere is not known here
            console.print(f"{found}; {advice}" if advice else str(found), soft_wrap=True)
        with Display(console) as display, watched_by(display):
            federated_training(name)
    show(name, as_json=False)


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="A run that was interrupted.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be computed.")] = False,
) -> None:
    """Go on with a run after any crash: what is done stays, computation begins with the first stage that is not."""
    settings()
    from data.home import Home
    from flows.recovery import left, told, unfinished_rounds

    home = Home.current()
    lines, missing = list(told(left(home, name))), unfinished_rounds(home, name)
    for line in lines:
        console.print(f"  to compute again: {line}", soft_wrap=True)
    if missing:
        console.print(f"  to finish: round{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}", soft_wrap=True)
    if not lines and not missing:
        console.print(f"{name}: nothing to compute, all rounds are finished")
    if not dry_run:
        go_on(name)


@app.command()
def rerun(
    name: Annotated[str, typer.Argument(help="A run.")],
    stage: Annotated[str, typer.Option("--from", help=f"The stage to begin with: {STAGES}.")],
    number: Annotated[int | None, typer.Option("--round", help="Of this round (default: the last one begun).")] = None,
    client: Annotated[str | None, typer.Option(help="Of this client only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be computed again.")] = False,
) -> None:
    """Compute a stage again, and everything that was computed from it; nothing else."""
    settings()
    from data.home import Home
    from fedcore.errors import StoreError
    from flows.recovery import affected, forget, not_since, told

    home = Home.current()
    chosen = affected(home, name, stage, number, client)
    for line in told(chosen):
        console.print(f"  to compute again: {line}", soft_wrap=True)
    if not dry_run:
        began = time.time()
        with home.lock(name):
            forget(home, chosen)
            go_on(name)
        if kept := list(told(not_since(home, chosen, began))):
            raise StoreError(f"not everything could be computed again, and stays as it was: {'; '.join(kept)}; the reason stands above")


@app.command()
def publish(
    name: Annotated[str, typer.Argument(help="A run with at least one finished round.")],
    rebuild: Annotated[bool, typer.Option("--rebuild", help="All rounds, also those that were published before.")] = False,
) -> None:
    """Bring MLflow up to date with the store; publishing twice adds nothing."""
    settings()
    from data.home import Home
    from data.records import bound, is_published, rounds
    from fedcore.errors import InputError
    from tasks.publish import publish_run

    home = Home.current()
    bound(home.server(), name)
    records = rounds(home.server(), name)
    if not records:
        raise InputError(f"run '{name}' has no finished round yet; `fedcore resume {name}` continues it")
    missing = [r for r in records if rebuild or not is_published(home.server(), name, r)]
    with home.lock(name), console.status(f"publishing {len(missing)} rounds …"):
        for record in missing:
            publish_run(home, name, record.round)
    console.print(f"{name}: published {len(missing)} of {len(records)} rounds")
