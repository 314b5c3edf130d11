"""The benchmark as a whole: all methods once, the best of them on more seeds, and what the result depends on; tables and plots of it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.home import Home
from data.records import RoundRecord, bound
from data.store import write_atomically
from flows.benchmarks import plots
from flows.benchmarks.comparison import PLAIN, Row, best, columns, markdown, qualities, row
from flows.benchmarks.methods import ABLATION, CENTRAL, METHODS, SENSITIVITY, Method, run_cell, run_name
from flows.benchmarks.quality import quality

Told = Callable[[str], None]


def rows_of(home: Home, seed: int, methods: Sequence[Method], assess: bool, told: Told) -> Iterator[tuple[Row, list[RoundRecord]]]:
    """Compute what is missing of these cells of a seed; `assess` for more than clients' held-out losses."""
    plain = run_cell(home, METHODS[PLAIN], seed)
    for method in methods:
        records = plain if method.name == PLAIN else run_cell(home, method, seed)
        found = quality(home, bound(home.server(), run_name(method, seed)), records[-1]) if assess else None
        made = row(method.name, method.question, seed, records, plain, found)
        d = made.difference
        told(
            f"seed {seed} {method.name:18} personal {made.personal:.4f} ({d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}] to {PLAIN}), "
            f"{made.clusters} clusters, {made.seconds:.0f} s"
        )
        yield made, records


def screen(home: Home, seed: int, names: Sequence[str], out: Path, told: Told) -> list[Row]:
    """The methods `names` on one seed: `screening.md`, `screening.parquet`."""
    rows = [made for made, _ in rows_of(home, seed, [METHODS[name] for name in names], False, told)]
    _table(rows, out / "screening", f"## Every method, seed {seed}\n\n{markdown(rows)}")
    return rows


def shortlist(screened: Sequence[Row]) -> list[str]:
    """Baselines, what the ablation needs, and the best three of the questions' winners, by the tuning pictures."""
    winners = sorted(best([r for r in screened if r.question != CENTRAL.question]).values(), key=lambda r: r.tune)
    baselines = [name for name, method in METHODS.items() if method.question == CENTRAL.question]
    return list(dict.fromkeys([*baselines, *ABLATION.values(), *(r.method for r in winners[:3])]))


def repeat(home: Home, seeds: Sequence[int], names: Sequence[str], out: Path, told: Told) -> list[Row]:
    """The methods `names` on every seed, assessed in full: `shortlist.md`, `shortlist.parquet`, convergence and ablation plots."""
    rows: list[Row] = []
    for seed in seeds:
        curves: dict[str, list[RoundRecord]] = {}
        for made, records in rows_of(home, seed, [CENTRAL, *(METHODS[name] for name in names)], True, told):
            rows.append(made)
            if len(records) > 1:
                curves[made.method] = records
        plots.draw(curves, "rounds", out / f"rounds-seed-{seed}")
        plots.draw(curves, "bytes", out / f"bytes-seed-{seed}")
    by_method = {name: [r.difference for r in rows if r.method == name] for name in dict.fromkeys(r.method for r in rows)}
    plots.bars({title: by_method[name] for title, name in ABLATION.items() if name in by_method}, PLAIN, out / "ablation")
    _table(rows, out / "shortlist", f"## The shortlist, every seed\n\n{markdown(rows)}\n{qualities(rows)}")
    return rows


def vary(home: Home, seed: int, out: Path, told: Told) -> None:
    """One setting at a time: `sensitivity.md`, `sensitivity.parquet` and a plot."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    rows: list[Row] = []
    for title, methods in SENSITIVITY.items():
        for value, method in methods.items():
            for made, _ in rows_of(home, seed, [method], False, told):
                rows.append(made)
                found.setdefault(title, {})[value] = (made.personal, made.cluster)
    plots.sensitivities(found, out / "sensitivity")
    _table(rows, out / "sensitivity", f"## What it depends on, seed {seed}\n\n{markdown(rows)}")


def _table(rows: Sequence[Row], out: Path, text: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns(rows)), out.with_suffix(".parquet"))
    write_atomically(out.with_suffix(".md"), text.encode())
