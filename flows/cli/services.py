"""What goes on for long or looks after machines: `up`, `deploy`, `site`, `doctor`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app, console, settings


@app.command()
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where Prefect listens.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Where MLflow listens.")] = 5000,
) -> None:
    """Start Prefect, MLflow and local workers, for people who watch and schedule; Ctrl-C ends all of it."""
    settings()
    from data.home import Home
    from flows.up import HOST
    from flows.up import up as start

    home = Home.current()
    console.print(f"Prefect: http://{HOST}:{port}   MLflow: http://{HOST}:{mlflow_port}   (Ctrl-C ends everything)")
    console.print(f"logs: {home.root / 'logs'}", soft_wrap=True)
    raise typer.Exit(start(home, port, mlflow_port))


@app.command()
def deploy() -> None:
    """Give a Prefect server (PREFECT_API_URL) its pools, queues and deployments, as `up` does; what was changed there stays."""
    settings()
    from fedcore.errors import InputError
    from flows.deploy import deploy as create
    from flows.worker import wait_for_server

    server = os.environ.get("PREFECT_API_URL")
    if not server:
        raise InputError("PREFECT_API_URL is not set: to which server? `fedcore up` starts one here")
    wait_for_server(server)
    create(Path.cwd())
    console.print(f"deployed to {server}", soft_wrap=True)


@app.command()
def site(
    name: Annotated[str, typer.Argument(help="The site's name in the federation file.")],
    clients: Annotated[Path, typer.Option(help="The folder of this site's client files; it is read here only.")],
    server: Annotated[str, typer.Option(help="Address of the federation's Prefect server, ending in /api.")],
    store: Annotated[str, typer.Option(help="The store that all share: a folder, or s3://bucket/prefix.")],
) -> None:
    """Serve this site's clients: encode, train and evaluate here when a round asks for it. Only polls outwards."""
    settings()
    from data.home import CLIENTS, STORE, Home, absolute
    from fedcore.errors import InputError
    from flows.worker import become_worker, wait_for_server

    if not any(clients.glob("*.yaml")):
        raise InputError("holds no client file (<id>.yaml)", at=clients)
    os.environ |= {CLIENTS: str(clients.absolute()), STORE: absolute(store), "PREFECT_API_URL": server, "PREFECT_WORKER_QUERY_SECONDS": "2"}
    Home.current().server()
    wait_for_server(server)
    console.print(f"site {name}: serving {', '.join(sorted(p.stem for p in clients.glob('*.yaml')))}; Ctrl-C ends it", soft_wrap=True)
    become_worker("sites", "--work-queue", name)


@app.command()
def doctor(
    file: Annotated[Path | None, typer.Argument(help="A federation file: what it needs of memory is checked as well.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a value of the file. May be repeated.")] = None,
) -> None:
    """Check that this machine can run a federation, and say what to do where it cannot."""
    settings()
    from data.federations import read_federation
    from flows.doctor import checks, memory

    bad, federation = 0, None if file is None else read_federation(file, set_ or [], None)
    for title, problem in [*checks(), *([] if federation is None else [memory(federation)])]:
        console.print(f"[green]ok[/]   {title}" if problem is None else f"[red]bad[/]  {title}: {problem}", soft_wrap=True)
        bad += problem is not None
    if bad:
        raise typer.Exit(1)
