"""`fedcore benchmark …`."""

import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app, console, settings
from flows.cli.runs import DEMO

benchmark = typer.Typer(no_args_is_help=True, help="Measure what the defaults rest on.")
app.add_typer(benchmark, name="benchmark")


@benchmark.command("statements")
def benchmark_statements(
    file: Annotated[Path, typer.Argument(help="The federation whose clients are asked.")] = DEMO,
    paraphrases: Annotated[Path, typer.Option(help="Sets of other statements by client.")] = Path("federations/paraphrases.yaml"),
) -> None:
    """How well clusters match the true styles when every client phrases its wish in other words."""
    settings()
    from data.federations import read_federation
    from flows.benchmarks.statements import statements

    scores = []
    for number, clusters, ari in statements(file, read_federation(file, [], None), paraphrases):
        scores.append(ari)
        console.print(f"set {number:2}: {clusters} clusters, ARI {ari:.2f}")
    exact = sum(score == 1.0 for score in scores)
    console.print(f"mean ARI {sum(scores) / len(scores):.2f} over {len(scores)} sets of statements, {exact} of them exactly right")


@benchmark.command("overhead")
def benchmark_overhead(
    file: Annotated[Path, typer.Argument(help="The federation to run, in a state folder that is removed afterwards.")] = DEMO,
) -> None:
    """What a round costs beside model computation (Prefect, MLflow, the store, the checks), on a warm server."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FEDCORE_HOME"] = scratch
        settings()
        from data.clients import remember_clients
        from data.federations import client_folder, read_federation
        from data.home import Home
        from data.records import bind
        from flows.benchmarks.overhead import overhead

        federation, home = read_federation(file, [], None), Home.current()
        bind(home.server(), federation)
        remember_clients(home, federation.name, client_folder(file))
        console.print(f"{federation.name}: {len(federation.clients)} clients, {federation.rounds} rounds; the first also imports MLflow")
        for cost in overhead(home, federation.name):
            console.print(
                f"round {cost.round}: {cost.wall:6.1f} s, of which {cost.computing:6.1f} s some stage was computed; "
                f"rest {cost.rest:5.2f} s ({100 * cost.share:.1f} %)",
                soft_wrap=True,
            )


@benchmark.command("crowd")
def benchmark_crowd(
    clients: Annotated[int, typer.Option(min=10, help="How many clients; a tenth of them goes before, to compare.")] = 1000,
    held_out: Annotated[int, typer.Option(min=0, help="Pictures per client to evaluate every model on.")] = 0,
) -> None:
    """Two rounds of very many clients with next to nothing to train: seconds, and memory of the coordinating process."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["FEDCORE_HOME"] = scratch
        settings()
        from data.home import Home
        from flows.benchmarks.crowd import crowds

        console.print(f"a picture and a step each, {held_out} held out, on a base too small to draw")
        for crowd in crowds(Home.current(), [clients // 10, clients], held_out, Path(scratch)):
            walls = " and ".join(f"{wall:.1f} s" for wall in crowd.walls)
            console.print(
                f"{crowd.clients:,} clients, {crowd.came_through:,} came through: two rounds in {walls}, "
                f"coordinator's memory at most {crowd.peak / 2**20:,.0f} MiB",
                soft_wrap=True,
            )


@benchmark.command("clustering")
def benchmark_clustering(
    clients: Annotated[int, typer.Option(min=100, help="How many wishes to group.")] = 1_000_000,
) -> None:
    """Seconds and memory for grouping very many clients' wishes, the number of clusters found automatically."""
    from flows.benchmarks.clustering import DIMS, GROUPS, grouping

    made = grouping(clients)
    console.print(
        f"{made.clients:,} wishes of {DIMS} numbers in {GROUPS} overlapping groups: {made.clusters} clusters in {made.seconds:.1f} s, "
        f"ARI {made.ari:.2f}; at most {made.peak / 2**20:,.0f} MiB, of which the wishes themselves {made.before / 2**20:,.0f}",
        soft_wrap=True,
    )


class Part(StrEnum):
    """Parts of the benchmark of methods."""

    screen = "screen"
    shortlist = "shortlist"
    sensitivity = "sensitivity"


@benchmark.command("methods")
def benchmark_methods(
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="The first is screened; 0, 1 and 2 by default. Repeatable.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this method, set against fedavg; no tables or plots. Repeatable.")] = None,
    part: Annotated[list[Part] | None, typer.Option(help="Only this part; all three by default. Repeatable.")] = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for tables and plots.")] = Path("runs/benchmark"),
) -> None:
    """Every method on federations/benchmark.yaml with the same budget, the best on all seeds, and what the result depends on.

    What is finished is not computed again, so stop it at will: neither runs nor what stands in the folder's cells.parquet.
    """
    settings()
    from data.home import Home
    from flows.benchmarks.methods import METHODS
    from flows.benchmarks.suite import Suite, shortlist
    from flows.temporary_server import temporary_server

    if unknown := sorted(set(only or ()) - set(METHODS)):
        from fedcore.errors import InputError

        raise InputError(f"there is no method '{unknown[0]}'; there are {', '.join(METHODS)}")
    parts, of = set(part or Part), seeds or [0, 1, 2]

    def told(line: str) -> None:
        console.print(line, soft_wrap=True)

    suite = Suite(Home.current(), out, told)
    with temporary_server():
        if only:
            for seed in of:
                suite.cells([METHODS[name] for name in only], seed, assess=Part.shortlist in parts)
            return
        if parts & {Part.screen, Part.shortlist}:
            screened = suite.screen(of[0])
            if Part.shortlist in parts:
                suite.repeat(of, shortlist(screened))
        if Part.sensitivity in parts:
            suite.vary(of[0])
    console.print(f"wrote tables and plots to {out}")


@benchmark.command("hybrid")
def benchmark_hybrid(
    name: Annotated[str, typer.Argument(help="A finished run whose clients' styles are known, such as the demo.")] = "demo",
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the picture grid.")] = Path("runs/benchmark"),
) -> None:
    """Ways of mixing two styles: how much the pictures resemble the one of both which they resemble less."""
    settings()
    from data.home import Home
    from data.records import bound
    from flows.benchmarks.hybrid import hybrids
    from tasks.generate import last_round

    home = Home.current()
    record = last_round(home, name)
    with console.status("drawing …"):
        found = hybrids(home, bound(home.server(), name), record, out)
    for way in found:
        console.print(
            f"{way.name:10} lesser similarity {way.least.mean:+.3f} [{way.least.low:+.3f}, {way.least.high:+.3f}], "
            f"{way.more.mean:+.3f} [{way.more.low:+.3f}, {way.more.high:+.3f}] to sum; {way.passes} passes a step",
            soft_wrap=True,
        )
    console.print(f"wrote {out / 'hybrids.png'}")


@benchmark.command("split")
def benchmark_split(
    name: Annotated[str, typer.Argument(help="A finished run whose clients' styles are known, such as the demo.")] = "demo",
    device_speed: Annotated[float, typer.Option(min=1e-3, help="How fast the device is; this machine is 1.")] = 0.25,
    mbit: Annotated[float, typer.Option(min=1e-3, help="Megabits a second of the link between both.")] = 20.0,
    generic: Annotated[str, typer.Option(help="What the server draws towards where it knows nothing of the prompt.")] = "",
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the table and the plot.")] = Path("runs/benchmark"),
) -> None:
    """An edge server takes the early steps: what it saves and what it changes, over split points, and the best of them here."""
    settings()
    from data.home import Home
    from data.records import bound
    from data.store import write_atomically
    from flows.benchmarks import plots
    from flows.benchmarks.split import VARIANTS, costs_of, markdown, points_of, quickest
    from tasks.generate import last_round

    home = Home.current()
    record, federation = last_round(home, name), bound(home.server(), name)
    with console.status("drawing …"):
        points = points_of(home, federation, record, generic)
    with console.status("timing …"):
        costs = costs_of(home, federation, record)
    table = markdown(points, costs)
    write_atomically(out / "split.md", table.encode())
    plots.splits(points, costs, out / "split")
    console.print(table, markup=False, soft_wrap=True)
    for users in costs.step:
        for variant, told in VARIANTS.items():
            one = quickest([p for p in points if p.variant == variant or p.done == 0], costs, users, device_speed, mbit)
            alone, wait = costs.device(0, device_speed), costs.wait(one, users, device_speed, mbit)
            console.print(
                f"{users} in a batch, {told}: {one.done} steps by the server; a picture in {wait:.2f} s, by the device alone {alone:.2f} s",
                soft_wrap=True,
            )
    console.print(f"wrote {out / 'split.md'} and the plot beside it")
