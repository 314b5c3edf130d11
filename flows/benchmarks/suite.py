"""The benchmark as a whole: all methods once, the best of them on more seeds, and what the result depends on; tables and plots of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.home import Home
from data.records import bound
from data.store import write_atomically
from flows.benchmarks import plots
from flows.benchmarks.cells import Cell, Table, computing, measured
from flows.benchmarks.comparison import LEGEND, PLAIN, best, difference, markdown, plain_of, qualities, standing
from flows.benchmarks.methods import ABLATION, CENTRAL, METHODS, SENSITIVITY, Method, cell_key, run_cell, run_name, settings_table
from flows.benchmarks.quality import quality


@dataclass(frozen=True)
class Suite:
    """Where runs and results lie; `told` hears of every cell. What the table in `out` holds is not computed again."""

    home: Home
    out: Path
    told: Callable[[str], None]

    def cell(self, method: Method, seed: int, assess: bool = False) -> Cell:
        """A cell, computed if need be; with `assess` also what its models are worth beyond their clients' own pictures."""
        table, key = Table(self.out / "cells.parquet"), cell_key(self.home, method, seed)
        found = table.find(method.name, seed, key)
        found = found and replace(found, question=method.question)  # it may be asked under another heading by now
        if found is None or (assess and found.quality is None):
            records = run_cell(self.home, method, seed)
            store, name = self.home.server(), run_name(method, seed, key)
            found = found or measured(method.name, method.question, seed, key, records, [computing(store, name, r) for r in records])
            if assess:
                found = replace(found, quality=quality(self.home, bound(store, name), records[-1]))
            table.add(found)
        return found

    def cells(self, methods: Sequence[Method], seed: int, assess: bool = False) -> list[Cell]:
        """These cells of a seed, and at their head that of plain federated LoRA."""
        plain, out = self.cell(METHODS[PLAIN], seed, assess), list[Cell]()
        for method in (METHODS[PLAIN], *(m for m in methods if m.name != PLAIN)):
            made = self.cell(method, seed, assess)
            d = difference(made, plain)
            self.told(
                f"seed {seed} {made.method:18} personal {made.personal[-1]:.4f} ({d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}] to {PLAIN}), "
                f"{made.clusters} clusters, {sum(made.seconds):.0f} s"
            )
            out.append(made)
        return out

    def screen(self, seed: int) -> list[Cell]:
        """All methods on one seed: `screening.md`."""
        cells = self.cells(list(METHODS.values()), seed)
        self._write(
            "screening.md",
            f"## Every method, seed {seed}\n\n{LEGEND}\n{markdown(cells, cells)}\n{standing(cells)}\n{settings_table(METHODS)}",
        )
        return cells

    def repeat(self, seeds: Sequence[int], names: Sequence[str]) -> list[Cell]:
        """The methods `names` on every seed, assessed in full: `shortlist.md`, convergence and ablation plots."""
        cells: list[Cell] = []
        for seed in seeds:
            mine = self.cells([CENTRAL, *(METHODS[name] for name in names)], seed, assess=True)
            cells += mine
            curves = [c for c in mine if len(c.personal) > 1]
            plots.draw(curves, "rounds", self.out / f"rounds-seed-{seed}")
            plots.draw(curves, "bytes", self.out / f"bytes-seed-{seed}")
        steps = {
            title: [difference(c, plain_of(cells, c.seed)) for c in cells if c.method == name]
            for title, name in ABLATION.items()
            if name in {c.method for c in cells}
        }
        plots.bars(steps, seeds, PLAIN, self.out / "ablation")
        text = f"{markdown(cells, cells)}\n{standing(cells)}\n{qualities(cells)}"
        self._write("shortlist.md", f"## The shortlist, every seed\n\n{LEGEND}\n{text}")
        return cells

    def vary(self, seed: int) -> None:
        """One setting at a time: `sensitivity.md` and a plot."""
        found: dict[str, dict[str, tuple[float, float]]] = {}
        plain, *made = self.cells(list({m.name: m for methods in SENSITIVITY.values() for m in methods.values()}.values()), seed)
        by_name, cells = {c.method: c for c in made}, list[Cell]()
        for title, methods in SENSITIVITY.items():
            cells += [replace(by_name[m.name], question=title) for m in methods.values()]
            found[title] = {value: (by_name[m.name].personal[-1], by_name[m.name].cluster[-1]) for value, m in methods.items()}
        plots.sensitivities(found, self.out / "sensitivity")
        self._write("sensitivity.md", f"## What it depends on, seed {seed}\n\n{LEGEND}\n{markdown(cells, [plain])}")

    def _write(self, name: str, text: str) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out / name, text.encode())


def shortlist(screened: Sequence[Cell]) -> list[str]:
    """Baselines, what the ablation needs, and the best three of the questions' winners, by the tuning pictures."""
    winners = sorted(best([c for c in screened if c.question != CENTRAL.question]).values(), key=lambda c: c.tune)
    baselines = [name for name, method in METHODS.items() if method.question == CENTRAL.question]
    return list(dict.fromkeys([*baselines, *ABLATION.values(), *(c.method for c in winners[:3])]))
