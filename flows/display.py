"""How a run looks in the terminal: a line that moves for the stage at work, a line that stays for every stage done, a table at the end."""

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from data.results import gain


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
    for column in ("client", "style", "pics", "in", "base", "cluster", "personal", "gain", "others"):
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
    console.print(made)
    s = results["summary"]
    parts = [f"mean gain {100 * s['gain_personal_mean']:.1f} %"] if s["gain_personal_mean"] is not None else []
    parts += [f"clusters against true styles: ARI = {s['ari']:.2f}"] if s["ari"] is not None else []
    parts += [f"style retrieval {100 * s['style_accuracy']:.0f} %"] if s["style_accuracy"] is not None else []
    console.print("held-out loss on pictures that no choice ever saw; " + "; ".join(parts), soft_wrap=True)
    console.print(
        f"pictures: {results['artifacts']['gallery']}\nMLflow:   mlflow ui --backend-store-uri {results['artifacts']['mlflow_uri']}",
        soft_wrap=True,
    )
