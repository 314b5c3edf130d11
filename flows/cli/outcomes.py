"""What came of runs: `results`, `status`, `compare`."""

import json
import sys
from typing import Annotated

import typer

from flows.cli.app import app, console, settings


def show(name: str, *, as_json: bool) -> None:
    """Print a run's results."""
    from data.home import Home
    from data.results import results
    from flows.display import table

    made = results(Home.current(), name)
    if as_json:
        sys.stdout.write(json.dumps(made, indent=1) + "\n")
    else:
        table(console, made)


@app.command()
def results(name: str, json_: Annotated[bool, typer.Option("--json", help="Stable, documented JSON.")] = False) -> None:
    """The table of a finished run."""
    settings()
    show(name, as_json=json_)


@app.command()
def status(name: Annotated[str | None, typer.Argument(help="A run; without it, all runs.")] = None) -> None:
    """Which runs there are, how far they got, and who was left out."""
    settings()
    from data.home import Home
    from data.records import bound, names, rounds
    from fedcore.errors import StoreError

    store = Home.current().server()
    chosen = names(store) if name is None else [name]
    if not chosen:
        console.print("no runs yet; start one with `fedcore run federations/demo.yaml`")
    for each in chosen:
        try:
            federation, records = bound(store, each), rounds(store, each)
        except StoreError as error:
            if name is not None:
                raise
            console.print(f"{each}: {error}", markup=False, soft_wrap=True)  # one damaged run says nothing of the others
            continue
        console.print(f"{each}: {len(records)} of {federation.rounds} rounds, {len(federation.clients)} clients")
        for record in records:
            failed = {c: who.failed for c, who in record.clients.items() if who.failed}
            console.print(
                f"  round {record.round}: {record.seconds:.0f} s, {len(record.clusters)} clusters, {len(failed)} clients left out"
            )
            for client, reason in failed.items():
                console.print(f"    {client}: {reason}", markup=False, soft_wrap=True)


@app.command()
def compare(names: Annotated[list[str], typer.Argument(help="Two runs or more.")]) -> None:
    """Runs side by side: held-out losses, the worst client, bytes and seconds, and how the loss fell round by round."""
    settings()
    from data.home import Home
    from data.records import bound, rounds
    from fedcore.errors import InputError
    from flows.display import comparison

    if len(set(names)) < max(2, len(names)):
        raise InputError("compare takes two runs or more, each once; `ls runs` shows them")
    store = Home.current().server()
    runs = {name: (bound(store, name), rounds(store, name)) for name in names}
    if unfinished := [name for name, (_, records) in runs.items() if not records]:
        raise InputError(f"run '{unfinished[0]}' has no finished round yet; `fedcore resume {unfinished[0]}` continues it")
    comparison(console, {name: records for name, (_, records) in runs.items()})
