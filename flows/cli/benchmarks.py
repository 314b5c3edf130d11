"""`fedcore benchmark …`."""

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
    from flows.benchmark import statements

    scores = []
    for number, clusters, ari in statements(file, read_federation(file, [], None), paraphrases):
        scores.append(ari)
        console.print(f"set {number:2}: {clusters} clusters, ARI {ari:.2f}")
    exact = sum(score == 1.0 for score in scores)
    console.print(f"mean ARI {sum(scores) / len(scores):.2f} over {len(scores)} sets of statements, {exact} of them exactly right")
