"""A cell of the benchmark, measured: one method on one seed; kept in one table, from which all others and the plots are made."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from data import manifests
from data.journal import read_journal
from data.records import RoundRecord
from data.results import agreement, known_so_far, mean_of
from data.store import Store, write_atomically
from fedcore.config import FREE, Federation
from fedcore.errors import InputError
from fedcore.statistics import Interval
from flows.benchmarks.quality import Quality

SPREAD = ("kid", "hybrid")
"""What is an interval: three columns each."""


@dataclass(frozen=True)
class Cell:
    """One method on one seed; losses are held-out ones, means over clients.

    `key` names everything that the cell was computed from. `losses` are the personal ones of every client, by its name;
    `personal`, `cluster`, `bytes_up`, `bytes_down` and `seconds` go by round; a client that was not asked in a round counts with
    what it had. Seconds are those of computation, of all processes together, whoever else needed the same. By `tune` one may
    choose, no test picture counts in it; but what chooses a share or a cluster on the tuning pictures itself looks a little
    better there than it is.
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


def measured(method: str, question: str, seed: int, key: str, records: Sequence[RoundRecord], seconds: Sequence[float]) -> Cell:
    """What a finished run comes to, but for its quality.

    Raises:
        InputError: a client failed in one of its rounds, so that its budget was not the others'.
    """
    for record in records:
        for client, who in sorted(record.clients.items()):
            if who.failed:
                failed = f"client {client} failed in round {record.round} ({who.failed})"
                raise InputError(f"{method}, seed {seed}: {failed}; measure it again in another FEDCORE_HOME")
    last = records[-1]
    tests, tunes = known_so_far(records, "test"), known_so_far(records, "tune")
    errors = [c.aggregation_error for c in last.clusters.values() if c.aggregation_error is not None]
    known = [(c.cluster, c.group) for c in last.clients.values() if c.cluster is not None and c.group is not None]
    return Cell(
        method=method,
        question=question,
        seed=seed,
        key=key,
        clients=tuple(sorted(tests[-1])),
        losses=tuple(tests[-1][c]["personal"] for c in sorted(tests[-1])),
        base=mean_of("base", tests[-1]),
        personal=tuple(mean_of("personal", each) for each in tests),
        cluster=tuple(mean_of("cluster", each) for each in tests),
        bytes_up=tuple(r.bytes_up for r in records),
        bytes_down=tuple(r.bytes_down for r in records),
        seconds=tuple(seconds),
        tune=mean_of("personal", tunes[-1]),
        clusters=len(last.clusters),
        ari=agreement(known) if known else None,
        aggregation_error=sum(errors) / len(errors) if errors else None,
    )


def computing(store: Store, name: str, record: RoundRecord) -> float:
    """Seconds of all computations that belong to a round, in this run or another that needed the same."""
    made = (manifests.read(store, stage, key) for stage, keys in read_journal(store, name, record.round).items() for key in keys.values())
    return sum(manifest.seconds for manifest in made if manifest is not None)


class Table:
    """The cells that were measured so far, in a Parquet file; whatever is in it is not computed again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cells = _by_place(path)

    def find(self, method: str, seed: int, key: str) -> Cell | None:
        """A cell, if it was measured, and from the same."""
        cell = self._cells.get((method, seed))
        return cell if cell is not None and cell.key == key else None

    def add(self, cell: Cell) -> None:
        """Keep a cell at once, beside what other processes added meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            self._cells = _by_place(self.path) | {(cell.method, cell.seed): cell}
            out = pa.BufferOutputStream()
            pq.write_table(pa.table(_columns([self._cells[at] for at in sorted(self._cells, key=lambda at: (at[1], at[0]))])), out)
            write_atomically(self.path, out.getvalue().to_pybytes())


VERSION = 1
"""Raise it when the same settings come to mean another computation."""


def key_of(federation: Federation, clients: Path, weights: str) -> str:
    """Names a cell by its federation as it is resolved, its clients' files and the base's weights."""
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(clients.iterdir())}
    what = federation.model_dump(mode="json", exclude={"name", "base", *FREE} - {"rounds"})
    return hashlib.sha256(json.dumps([VERSION, what, files, weights], sort_keys=True).encode()).hexdigest()[:32]


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


def _by_place(path: Path) -> dict[tuple[str, int], Cell]:
    return {(c.method, c.seed): c for c in _read(path)} if path.exists() else {}


def _read(path: Path) -> Iterator[Cell]:
    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError):
        raise InputError(f"{path}: no table of cells; move it away, and what it held is measured again") from None
    for row in rows:
        plain = {f.name: tuple(v) if isinstance(v := row[f.name], list) else v for f in fields(Cell) if f.name != "quality"}
        cell = Cell(**plain)
        if row["retrieval"] is not None:
            spread = {name: Interval(*(row[n] for n in (name, f"{name}_low", f"{name}_high"))) for name in SPREAD}
            cell = replace(cell, quality=Quality(**{f.name: spread.get(f.name, row[f.name]) for f in fields(Quality)}))
        yield cell
