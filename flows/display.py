"""How a run looks in the terminal: a line that moves for the stage at work, a line that stays for every stage done, a table at the end."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from data.records import RoundRecord
from data.results import gain, known_so_far, mean_of


class Display:
    """A `flows.progress.Watcher` that draws with rich; on a terminal bars move, elsewhere each finished stage is a line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (SpinnerColumn(), TextColumn("{task.description:10}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[last]}", markup=False), console=console, transient=True)
        self._title, self._total, self._done, self._began = "", 0, 0, 0.0
        self._last = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._finish()
        self._progress.stop()

    def stage(self, title: str, total: int) -> None:
        """A stage begins; a total of 0 is a headline."""
        self._finish()
        if total == 0:
            self._console.print(f"[bold]{title}[/]")
            self._title = ""
            return
        self._title, self._total, self._done, self._began, self._last = title, total, 0, time.monotonic(), ""
        self._bar = self._progress.add_task(title, total=total, last="")

    def step(self, text: str) -> None:
        """One step is done."""
        self._done += 1
        self._last = text
        self._progress.update(self._bar, completed=min(self._done, self._total), last=text)
        if " failed" in text or " refused" in text:
            self._console.print(f"  [red]{escape(text)}[/]")

    def _finish(self) -> None:
        if self._title:
            self._progress.remove_task(self._bar)
            count = f"{self._done} of {self._total}" if self._total > 1 else self._last
            self._console.print(f"  {self._title:10} {count:>14}  {time.monotonic() - self._began:6.1f} s")
            self._title = ""


def table(console: Console, results: dict[str, Any]) -> None:
    """The table of a run, a row per client, and what it comes to."""
    made = Table(box=None, header_style="bold")
    for column in ("client", "style", "pictures", "cluster", "base", "→ cluster", "→ personal", "gain", "others"):
        made.add_column(column, justify="left" if column in ("client", "style") else "right")
    for c in results["clients"]:
        up = gain(c["loss"])
        losses = {what: "–" if value is None else f"{value:.4f}" for what, value in c["loss"].items()}
        made.add_row(
            c["id"],
            c["style"] or "–",
            str(c["samples"]),
            "–" if c["cluster"] is None else str(c["cluster"]),
            losses["base"],
            losses["cluster"],
            losses["personal"],
            "–" if up is None else f"{100 * up:.1f} %",
            losses["other_cluster"],
        )
    uncut(console, made)
    s = results["summary"]
    parts = [f"mean gain {100 * s['gain_personal_mean']:.1f} %"] if s["gain_personal_mean"] is not None else []
    parts += [f"clusters against true styles: ARI = {s['ari']:.2f}"] if s["ari"] is not None else []
    parts += [f"style retrieval {100 * s['style_accuracy']:.0f} %"] if s["style_accuracy"] is not None else []
    console.print("held-out loss on pictures that no choice ever saw; " + "; ".join(parts), soft_wrap=True)
    console.print(
        f"pictures: {results['artifacts']['gallery']}\nMLflow:   mlflow ui --backend-store-uri {results['artifacts']['mlflow_uri']}",
        soft_wrap=True,
    )


BLOCKS = "▁▂▃▄▅▆▇█"


def curve(values: Sequence[float], low: float, high: float) -> str:
    """Values as a line of blocks between `low` and `high`."""
    span = (high - low) or 1.0
    return "".join("·" if v != v else BLOCKS[min(7, int((v - low) / span * 8))] for v in values)


UNBOUNDED = 10_000


def uncut(console: Console, made: Table) -> None:
    """A table that is not fitted to the terminal: there, or in a file, long lines do less harm than names and numbers cut short."""
    made.width = console.measure(made, options=console.options.update(width=UNBOUNDED)).maximum
    console.print(made, crop=False)


def comparison(console: Console, runs: Mapping[str, Sequence[RoundRecord]]) -> None:
    """A row a run, all curves on one scale; clients that were not asked in a round count with what they had."""
    known = {name: known_so_far(records, "test") for name, records in runs.items()}
    losses = {name: [mean_of("personal", each) for each in rounds] for name, rounds in known.items()}
    shown = [v for values in losses.values() for v in values if v == v]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    made = Table(box=None, header_style="bold")
    for column in (
        "run",
        "rounds",
        "clusters",
        "base",
        "cluster",
        "personal",
        "worst",
        "gain",
        "MB",
        "seconds",
        "personal loss by round",
    ):
        made.add_column(column, justify="left" if column in ("run", "personal loss by round") else "right")
    for name, records in runs.items():
        last = records[-1]
        now = known[name][-1]
        base, personal = mean_of("base", now), losses[name][-1]
        worst = max((each["personal"] for each in now.values() if "personal" in each), default=float("nan"))
        numbers = [base, mean_of("cluster", now), personal, worst]
        made.add_row(
            name,
            str(len(records)),
            str(len(last.clusters)),
            *("–" if v != v else f"{v:.4f}" for v in numbers),
            "–" if personal != personal else f"{100 * (1 - personal / base):.1f} %",
            f"{sum(r.bytes_up + r.bytes_down for r in records) / 1e6:.1f}",
            f"{sum(r.seconds for r in records):.0f}",
            curve(losses[name], low, high),
        )
    uncut(console, made)
    if shown:
        console.print(f"held-out losses, means over clients; the curves span {low:.4f} (low) to {high:.4f} (high)", soft_wrap=True)
