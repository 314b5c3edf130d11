"""The command line: `fedcore run`, `resume`, `rerun`, `publish`, `status`, `results`, `generate`, `import-images`, `doctor`."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
benchmark = typer.Typer(no_args_is_help=True, help="Measure what the defaults rest on.")
app.add_typer(benchmark, name="benchmark")
console = Console(stderr=False, highlight=False)
DEMO = Path("federations/demo.yaml")


def settings() -> None:
    """Where Prefect keeps its state, and how much it says; set before Prefect is imported."""
    from data.home import HOME, Home

    home = Home.current()
    os.environ[HOME] = str(home.root)
    for name, value in {
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "fedcore,data,tasks",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "HF_HUB_OFFLINE": "1",
    }.items():
        os.environ.setdefault(name, value)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="The federation's YAML file.")] = DEMO,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a value, e.g. --set clustering.k=4. May be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run (default: the file's).")] = None,
) -> None:
    """Run a federation on this machine. What was computed before is not computed again."""
    settings()
    from data.base.load import base_folder
    from data.clients import load_client, remember_clients
    from data.federations import client_folder, read_federation
    from data.home import Home
    from data.records import bind
    from fedcore.errors import InputError

    federation = read_federation(file, set_ or [], name)
    base_folder(federation.base)
    if federation.away and "PREFECT_API_URL" not in os.environ:
        raise InputError(
            f"{file}: its clients compute elsewhere, which needs a Prefect server; start `fedcore up`, set PREFECT_API_URL to its address"
        )
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
    console.print("starting the workflow engine …")
    from flows.display import Display
    from flows.progress import watched_by
    from flows.training import federated_training

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
    stage: Annotated[str, typer.Option("--from", help="The stage to begin with: encode, train, cluster, aggregate, interact, evaluate …")],
    number: Annotated[int | None, typer.Option("--round", help="Of this round (default: the last one begun).")] = None,
    client: Annotated[str | None, typer.Option(help="Of this client only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be computed again.")] = False,
) -> None:
    """Compute a stage again, and everything that was computed from it; nothing else."""
    settings()
    from data.home import Home
    from flows.recovery import affected, forget, told

    home = Home.current()
    chosen = affected(home, name, stage, number, client)
    for line in told(chosen):
        console.print(f"  to compute again: {line}", soft_wrap=True)
    if not dry_run:
        with home.lock(name):
            forget(home, chosen)
            go_on(name)


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
    with console.status(f"publishing {len(missing)} rounds …"):
        for record in missing:
            publish_run(home, name, record.round)
    console.print(f"{name}: published {len(missing)} of {len(records)} rounds")


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

    store = Home.current().server()
    chosen = names(store) if name is None else [name]
    if not chosen:
        console.print("no runs yet; start one with `fedcore run federations/demo.yaml`")
    for each in chosen:
        federation, records = bound(store, each), rounds(store, each)
        console.print(f"{each}: {len(records)} of {federation.rounds} rounds, {len(federation.clients)} clients")
        for record in records:
            failed = {c: who.failed for c, who in record.clients.items() if who.failed}
            console.print(
                f"  round {record.round}: {record.seconds:.0f} s, {len(record.clusters)} clusters, {len(failed)} clients left out"
            )
            for client, reason in failed.items():
                console.print(f"    {client}: {reason}", markup=False, soft_wrap=True)


@app.command()
def generate(
    name: Annotated[str, typer.Argument(help="A finished run.")],
    prompt: Annotated[str, typer.Option(help="What to draw; it is encoded here and kept nowhere.")],
    client: Annotated[str | None, typer.Option(help="Draw with this client's personal adapter.")] = None,
    cluster: Annotated[int | None, typer.Option(help="Draw with this cluster's adapter.")] = None,
    out: Annotated[Path, typer.Option(help="Where the PNG goes.")] = Path("picture.png"),
    seed: Annotated[int, typer.Option(help="Another seed, another picture.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(help="How strictly the prompt is followed.")] = 3.0,
) -> None:
    """Draw a picture in a user's or a cluster's style (or, with neither, as the base would)."""
    settings()
    if client is not None and cluster is not None:
        from fedcore.errors import InputError

        raise InputError("give --client or --cluster, not both")
    from rich.progress import Progress

    from data.home import Home
    from tasks.generate import generate as draw

    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("drawing", total=steps)
        draw(
            Home.current(), name, client=client, cluster=cluster, prompt=prompt, out=out, seed=seed, steps=steps, guidance=guidance,
            on_step=lambda done, _: progress.update(bar, completed=done),
        )  # fmt: skip
    console.print(f"wrote {out}")


@app.command("import-images")
def import_images(
    folder: Annotated[Path, typer.Argument(help="Pictures with .txt captions, a metadata.jsonl or a captions.csv.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
) -> None:
    """Make a client table from a folder of pictures; what cannot be used is listed and skipped."""
    from rich.progress import track

    from data.import_images import import_images as make

    made = make(folder, out, track=lambda files: track(files, "reading pictures", console=console, transient=True))
    for file, reason in made.skipped:
        console.print(f"skipped {file}: {reason}", markup=False, soft_wrap=True)
    console.print(f"wrote {made.rows} pictures to {out}" + (f", skipped {len(made.skipped)}" if made.skipped else ""), soft_wrap=True)


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Where Prefect listens.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Where MLflow listens.")] = 5000,
) -> None:
    """Start Prefect, MLflow and local workers, for people who watch and schedule; Ctrl-C ends all of it."""
    settings()
    from data.home import Home
    from flows.up import HOST
    from flows.up import up as start

    console.print(f"Prefect: http://{HOST}:{port}   MLflow: http://{HOST}:{mlflow_port}   (Ctrl-C ends everything)")
    raise typer.Exit(start(Home.current(), port, mlflow_port))


@app.command()
def site(
    name: Annotated[str, typer.Argument(help="The site's name in the federation file.")],
    clients: Annotated[Path, typer.Option(help="The folder of this site's client files; it is read here only.")],
    server: Annotated[str, typer.Option(help="Address of the federation's Prefect server, ending in /api.")],
    store: Annotated[str, typer.Option(help="The store that all share: a folder, or s3://bucket/prefix.")],
) -> None:
    """Serve this site's clients: encode, train and evaluate here when a round asks for it. Only polls outwards."""
    settings()
    from data.home import CLIENTS, STORE, Home
    from fedcore.errors import InputError
    from flows.up import become_worker, wait_for_server

    if not any(clients.glob("*.yaml")):
        raise InputError(f"{clients}: holds no client file (<id>.yaml)")
    os.environ |= {CLIENTS: str(clients.absolute()), STORE: store, "PREFECT_API_URL": server, "PREFECT_WORKER_QUERY_SECONDS": "2"}
    Home.current().server()
    wait_for_server(server)
    console.print(f"site {name}: serving {', '.join(sorted(p.stem for p in clients.glob('*.yaml')))}; Ctrl-C ends it", soft_wrap=True)
    become_worker("sites", "--work-queue", name)


@app.command()
def doctor() -> None:
    """Check that this machine can run a federation, and say what to do where it cannot."""
    settings()
    from flows.doctor import checks

    bad = 0
    for title, problem in checks():
        console.print(f"[green]ok[/]   {title}" if problem is None else f"[red]bad[/]  {title}: {problem}", soft_wrap=True)
        bad += problem is not None
    if bad:
        raise typer.Exit(1)


@benchmark.command("statements")
def benchmark_statements(
    file: Annotated[Path, typer.Argument(help="The federation whose clients are asked.")] = DEMO,
    paraphrases: Annotated[Path, typer.Option(help="Sets of other statements by client.")] = Path("federations/paraphrases.yaml"),
) -> None:
    """How well clusters match the true styles when every client phrases its wish in other words."""
    settings()
    from data.federations import read_federation
    from flows.benchmark import statements

    scores = []
    for number, clusters, ari in statements(file, read_federation(file, [], None), paraphrases):
        scores.append(ari)
        console.print(f"set {number:2}: {clusters} clusters, ARI {ari:.2f}")
    exact = sum(score == 1.0 for score in scores)
    console.print(f"mean ARI {sum(scores) / len(scores):.2f} over {len(scores)} sets of statements, {exact} of them exactly right")


def main() -> None:
    """Entry point: our own errors become one line and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from fedcore.errors import FedcoreError, InputError

    try:
        app(standalone_mode=True)
    except FedcoreError as error:
        Console(stderr=True, highlight=False).print(f"error: {error}", markup=False, soft_wrap=True)
        raise SystemExit(2 if isinstance(error, InputError) else 1) from None


if __name__ == "__main__":
    main()
