"""A cell of the benchmark, measured: one method on one seed; kept in one table, from which all others and the plots are made."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.records import RoundRecord
from data.results import agreement
from data.store import write_atomically
from fedcore.statistics import Interval
from flows.benchmarks.quality import Quality

SPREAD = ("kid", "hybrid")
"""What is an interval: three columns each."""


@dataclass(frozen=True)
class Cell:
    """One method on one seed; losses are held-out ones, means over clients.

    `key` names everything that the cell was computed from. `losses` are the personal ones of every client, by its name;
    `personal`, `cluster` and `bytes_up` go by round. By `tune` one may choose: no test picture counts in it.
    """

    method: str
    question: str
    seed: int
    key: str
    clients: tuple[str, ...]
    losses: tuple[float, ...]
    base: float
    personal: tuple[float, ...]
    cluster: tuple[float, ...]
    bytes_up: tuple[int, ...]
    bytes_down: tuple[int, ...]
    seconds: tuple[float, ...]
    tune: float
    clusters: int
    ari: float | None
    aggregation_error: float | None
    quality: Quality | None = None


def measured(method: str, question: str, seed: int, key: str, records: Sequence[RoundRecord]) -> Cell:
    """What a finished run comes to, but for its quality."""
    last = records[-1]
    mine = {c: value for c, who in sorted(last.clients.items()) if who.test and (value := who.test["personal"]) is not None}
    errors = [c.aggregation_error for c in last.clusters.values() if c.aggregation_error is not None]
    known = [(c.cluster, c.group) for c in last.clients.values() if c.cluster is not None and c.group is not None]
    return Cell(
        method=method,
        question=question,
        seed=seed,
        key=key,
        clients=tuple(mine),
        losses=tuple(mine.values()),
        base=last.mean("base", "test"),
        personal=tuple(r.mean("personal", "test") for r in records),
        cluster=tuple(r.mean("cluster", "test") for r in records),
        bytes_up=tuple(r.bytes_up for r in records),
        bytes_down=tuple(r.bytes_down for r in records),
        seconds=tuple(r.seconds for r in records),
        tune=last.mean("personal", "tune"),
        clusters=len(last.clusters),
        ari=agreement(known) if known else None,
        aggregation_error=sum(errors) / len(errors) if errors else None,
    )


class Table:
    """The cells that were measured so far, in a Parquet file; whatever is in it is not computed again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cells = {(c.method, c.seed): c for c in _read(path)} if path.exists() else {}

    def find(self, method: str, seed: int, key: str) -> Cell | None:
        """A cell, if it was measured, and from the same."""
        cell = self._cells.get((method, seed))
        return cell if cell is not None and cell.key == key else None

    def add(self, cell: Cell) -> None:
        """Keep a cell at once."""
        self._cells[cell.method, cell.seed] = cell
        out = pa.BufferOutputStream()
        pq.write_table(pa.table(_columns([self._cells[at] for at in sorted(self._cells, key=lambda at: (at[1], at[0]))])), out)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, out.getvalue().to_pybytes())


VERSION = 1
"""Raise it when the same settings come to mean another computation."""


def key_of(file: str, settings: Sequence[str], weights: str, wrong: float) -> str:
    """Names a cell by its federation's file and settings, the base's weights and the share of wrong wishes."""
    return hashlib.sha256(json.dumps([VERSION, file, list(settings), weights, wrong]).encode()).hexdigest()[:32]


def _columns(cells: Sequence[Cell]) -> dict[str, pa.Array]:
    rows = [_flat(cell) for cell in cells]
    return {name: pa.array([row[name] for row in rows], KINDS.get(name)) for name in rows[0]}


KINDS = {
    **dict.fromkeys(("ari", "aggregation_error"), pa.float64()),
    **{f.name: pa.float64() for f in fields(Quality)},
    **{f"{name}_{end}": pa.float64() for name in SPREAD for end in ("low", "high")},
}


def _flat(cell: Cell) -> dict[str, Any]:
    flat = {f.name: getattr(cell, f.name) for f in fields(Cell) if f.name != "quality"}
    for f in fields(Quality):
        value = None if cell.quality is None else getattr(cell.quality, f.name)
        if f.name in SPREAD:
            flat |= dict(zip((f.name, f"{f.name}_low", f"{f.name}_high"), (None,) * 3 if value is None else astuple(value), strict=True))
        else:
            flat[f.name] = value
    return flat


def _read(path: Path) -> Iterator[Cell]:
    for row in pq.read_table(path).to_pylist():
        plain = {f.name: tuple(v) if isinstance(v := row[f.name], list) else v for f in fields(Cell) if f.name != "quality"}
        cell = Cell(**plain)
        if row["retrieval"] is not None:
            spread = {name: Interval(*(row[n] for n in (name, f"{name}_low", f"{name}_high"))) for name in SPREAD}
            cell = replace(cell, quality=Quality(**{f.name: spread.get(f.name, row[f.name]) for f in fields(Quality)}))
        yield cell
