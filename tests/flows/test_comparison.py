"""What the benchmark's cells come to: against numbers worked out by hand."""

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from data.emoji.benchmark import POOL
from data.federations import client_folder, read_federation
from data.home import Home
from data.records import ClientRecord, ClusterRecord, RoundRecord
from data.store import Ref
from fedcore.errors import InputError
from fedcore.statistics import Interval
from flows.benchmarks import methods
from flows.benchmarks.cells import Cell, Table, measured
from flows.benchmarks.comparison import best, difference, markdown, qualities, reached, standing
from flows.benchmarks.methods import ABLATION, CENTRAL, METHODS, SENSITIVITY, _pooled, cell_key, prepare, run_name, settings_table
from flows.benchmarks.plots import bars, draw, points, sensitivities
from flows.benchmarks.quality import Quality
from flows.benchmarks.suite import Suite, shortlist
from flows.display import comparison, curve

REF = Ref(uri="blobs/00/00", sha256="0" * 64, kind="x", bytes=1)


def record(number: int, losses: dict[str, float], groups: str = "xxy", clusters: str = "001", sent: int = 2_000_000) -> RoundRecord:
    """Clients a, b, c with these personal losses, a base at 1 and a cluster's loss a tenth above the personal one."""
    clients = {
        c: ClientRecord(
            group=groups[i], cluster=int(clusters[i]), personal=REF,
            test={"base": 1.0, "cluster": loss + 0.1, "other_cluster": None, "personal": loss},
            tune={"base": 1.0, "cluster": loss, "other_cluster": None, "personal": 1 - loss},
        )
        for i, (c, loss) in enumerate(losses.items())
    }  # fmt: skip
    found = {int(k): ClusterRecord(members=[], adapter=REF, own=REF, rank=1, aggregation_error=0.2) for k in sorted(set(clusters))}
    return RoundRecord(
        round=number, base="b", clients=clients, clusters=found, clusters_ref=REF, bank=REF, gallery=REF, styles={}, silhouette=None,
        bytes_up=sent, bytes_down=sent, seconds=3.0, finished=0.0,
    )  # fmt: skip


def cell(method: str, question: str, records: list[RoundRecord], seed: int = 0) -> Cell:
    return measured(method, question, seed, "k", records, [3.0] * len(records))


PLAIN = cell("fedavg", "who", [record(n, dict.fromkeys("abc", loss)) for n, loss in ((1, 0.9), (2, 0.8), (3, 0.7))])
LOSSES = ({"a": 0.8, "b": 0.8, "c": 0.8}, {"a": 0.6, "b": 0.7, "c": 0.8}, {"a": 0.5, "b": 0.6, "c": 0.7})
BETTER = cell("better", "who", [record(i, losses) for i, losses in enumerate(LOSSES, start=1)])
QUALITY = Quality(0.6, 0.5, Interval(0.02, 0.01, 0.03), 0.75, Interval(0.1, -0.1, 0.2))


def test_a_cell_says_how_far_and_how_soon() -> None:
    assert (BETTER.personal, BETTER.cluster, BETTER.base) == (pytest.approx((0.8, 0.7, 0.6)), pytest.approx((0.9, 0.8, 0.7)), 1.0)
    assert (BETTER.clients, BETTER.losses) == (("a", "b", "c"), (0.5, 0.6, 0.7))
    assert BETTER.tune == pytest.approx(0.4)
    d = difference(BETTER, PLAIN)  # of −0.2, −0.1 and 0
    assert (d.mean, d.low, d.high) == (pytest.approx(-0.1), pytest.approx(-0.2), pytest.approx(0.0, abs=1e-12))
    assert reached(BETTER, PLAIN.personal[-1]) == 2
    assert reached(PLAIN, 0.5) is None
    assert (BETTER.clusters, BETTER.ari, BETTER.aggregation_error, sum(BETTER.seconds)) == (2, 1.0, pytest.approx(0.2), 9.0)


def test_a_run_in_which_somebody_failed_had_not_the_others_budget() -> None:
    whole = record(1, dict.fromkeys("abc", 0.9))
    broken = whole.model_copy(
        update={"clients": {**whole.clients, "b": whole.clients["b"].model_copy(update={"failed": "its process died"})}}
    )
    with pytest.raises(InputError, match=r"better, seed 0: client b failed in round 1 \(its process died\)"):
        cell("better", "who", [broken, record(2, dict.fromkeys("abc", 0.8))])


def test_losses_on_other_pictures_are_not_set_against_each_other() -> None:
    with pytest.raises(ValueError, match="better and fedavg of seed 0 were measured on other pictures"):
        difference(replace(BETTER, base=BETTER.base + 0.01), PLAIN)


def test_tables_hold_every_cell_best_first() -> None:
    lines = [line for line in markdown([PLAIN, BETTER], [PLAIN]).splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == ["better", "fedavg"]
    assert "| 0.6000 | 0.700 | -0.1000 [-0.2000, +0.0000] | 0.7000 | 2 | 8 | 12 | 1.00 | 0.20 | 9 |" in lines[0]


def test_methods_stand_against_the_defaults_seed_by_seed() -> None:
    defaults = [replace(BETTER, method="pipeline", seed=seed, losses=losses) for seed, losses in ((0, BETTER.losses), (1, (0.6, 0.7, 0.8)))]
    title, _, head, _, *lines = standing([PLAIN, *defaults, replace(BETTER, losses=(0.4, 0.5, 0.6), seed=1)]).splitlines()
    assert title == "### Against the defaults"
    assert head == "| method | − pipeline, seed 0 [95 %] | − pipeline, seed 1 [95 %] |"
    assert lines == [
        "| `better` | – | -0.2000 [-0.2000, -0.2000] |",
        "| `pipeline` | +0.0000 [+0.0000, +0.0000] | +0.0000 [+0.0000, +0.0000] |",
        "| `fedavg` | +0.1000 [+0.0000, +0.2000] | – |",
    ]


def test_the_table_keeps_cells_as_they_are_and_finds_only_those_of_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cells.parquet"
    assessed = replace(PLAIN, quality=QUALITY, seed=1)
    for each in (BETTER, PLAIN, assessed):
        Table(path).add(each)
    again = Table(path)
    assert [again.find("better", 0, "k"), again.find("fedavg", 0, "k"), again.find("fedavg", 1, "k")] == [BETTER, PLAIN, assessed]
    assert again.find("better", 0, "other") is None
    assert again.find("better", 1, "k") is None
    again.add(replace(BETTER, key="other"))
    assert Table(path).find("better", 0, "k") is None
    (tmp_path / "bad.parquet").write_bytes(b"garbage")
    with pytest.raises(InputError, match=r"bad\.parquet: no table of cells; move it away"):
        Table(tmp_path / "bad.parquet")
    mine, another = Table(path), Table(path)  # two processes
    mine.add(replace(PLAIN, seed=5))
    another.add(replace(PLAIN, seed=6))
    assert all(Table(path).find(PLAIN.method, seed, PLAIN.key) for seed in (0, 5, 6))


def test_a_cell_s_key_depends_on_all_that_it_is_computed_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)
    mixture = METHODS["mixture"]
    others = [METHODS["last"], replace(mixture, wrong=0.5), replace(mixture, settings=(*mixture.settings, "training.lr=1e-3"))]
    keys = {cell_key(home, mixture, 0), cell_key(home, mixture, 1), *(cell_key(home, other, 0) for other in others)}
    assert len(keys) == 5
    assert cell_key(home, mixture, 0) in keys
    table = client_folder(prepare(home, 0)) / "b01.parquet"
    table.write_bytes((client_folder(prepare(home, 1)) / "b01.parquet").read_bytes())
    assert cell_key(home, mixture, 0) not in keys
    assert cell_key(home, CENTRAL, 0) != cell_key(home, replace(CENTRAL, name="without the pooled part"), 0)
    centralised = cell_key(home, CENTRAL, 0)
    for what, value in (("POOLED_LR", 1.0), ("CENTRAL", replace(CENTRAL, settings=(*CENTRAL.settings, "training.lr=1.0")))):
        with monkeypatch.context() as changed:
            changed.setattr(methods, what, value)
            assert cell_key(home, methods.CENTRAL, 0) != centralised
    assert run_name(mixture, 0, "0" * 32) != run_name(mixture, 0, "1" * 32)


def test_what_is_told_of_a_method_s_settings_makes_its_federation(tmp_path: Path) -> None:
    file = prepare(Home(tmp_path), 0)
    text = settings_table(METHODS)
    common = re.findall(r"`(\S+=\S+)`", text.split("| method")[0])
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    assert set(told) == set(METHODS)
    for name, method in METHODS.items():
        said = read_federation(file, [*common, *re.findall(r"`([^`]+)`", told[name])], "cell")
        assert said == read_federation(file, list(method.settings), "cell")


def test_what_the_table_holds_is_put_together_without_computing(tmp_path: Path) -> None:
    """A cell that is looked for by another key, or under another question, would begin to compute, and fail without a server."""
    home, told = Home(tmp_path), list[str]()
    varied = [method for of in SENSITIVITY.values() for method in of.values()]
    for method in {m.name: m for m in (METHODS["fedavg"], *varied)}.values():
        Table(tmp_path / "cells.parquet").add(replace(PLAIN, method=method.name, question="of old", key=cell_key(home, method, 0)))
    suite = Suite(home, tmp_path, told.append)
    assert [c.question for c in suite.cells([METHODS["mixture"]], 0)] == ["baselines", "what a client keeps for itself"]
    suite.vary(0)
    sections = (tmp_path / "sensitivity.md").read_text().split("### ")[1:]
    assert {s.splitlines()[0].lower(): s.count("| `") for s in sections} == {title.lower(): len(of) for title, of in SENSITIVITY.items()}
    assert "personal 0.7000 (+0.0000" in told[0]


def test_all_methods_and_the_shortlist_are_put_into_tables_and_plots(tmp_path: Path) -> None:
    """With every cell in the table, each of another last loss."""
    home, out = Home(tmp_path), tmp_path / "out"
    names = [*METHODS, CENTRAL.name]
    for seed in (0, 1):
        for i, (name, method) in enumerate({**METHODS, CENTRAL.name: CENTRAL}.items()):
            records = [record(n, dict.fromkeys("abc", 0.9 - n * i / 1000)) for n in (1, 2)]
            made = replace(cell(name, method.question, records, seed), quality=QUALITY)
            if name in ("fedavg", *ABLATION.values(), CENTRAL.name) or seed == 0:
                Table(out / "cells.parquet").add(replace(made, key=cell_key(home, method, seed)))
    suite = Suite(home, out, lambda _: None)
    screened = suite.screen(0)
    assert [c.method for c in screened] == ["fedavg", *(name for name in METHODS if name != "fedavg")]
    text = (out / "screening.md").read_text()
    assert all(text.count(f"| `{name}` |") == 3 for name in METHODS)  # then against the defaults, then with what it sets
    suite.repeat([0, 1], list(ABLATION.values()))
    text = (out / "shortlist.md").read_text()
    wanted = {*ABLATION.values(), CENTRAL.name}
    assert {name: text.count(f"| `{name}` |") for name in names} == {name: 5 if name in wanted else 0 for name in names}
    for plot in ("rounds-seed-0", "bytes-seed-1", "ablation"):
        assert (out / f"{plot}.png").stat().st_size > 5000
        assert "<svg" in (out / f"{plot}.svg").read_text()


def test_every_method_has_the_same_budget_of_pictures(tmp_path: Path) -> None:
    """But for those who take part less, which is what is asked of them."""
    file = prepare(Home(tmp_path), 0)
    budgets = {}
    for method in (*METHODS.values(), *(m for of in SENSITIVITY.values() for m in of.values())):
        f = read_federation(file, method.settings, "x")
        steps = f.training.steps + (f.personal.steps if f.personal.trains else 0)
        budgets[method.name] = steps * f.rounds * f.training.batch * len(f.clients)
    assert set(budgets.values()) == {10 * 8 * 8 * 42}
    pooled = read_federation(file, [*CENTRAL.settings, *_pooled(read_federation(file, CENTRAL.settings, "x"))], "x")
    assert pooled.clients == (POOL,)
    assert pooled.training.steps * pooled.rounds * pooled.training.batch == 10 * 7 * 8 * 42


def test_outside_the_project_s_folder_the_benchmark_says_where_it_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"federations/benchmark\.yaml: there is no such file; the benchmark is run in the project's own"):
        prepare(Home(tmp_path), 0)


def test_the_pipeline_is_what_a_federation_is_where_nothing_is_said(tmp_path: Path) -> None:
    file = prepare(Home(tmp_path), 0)
    one, other = (read_federation(file, settings, "x") for settings in (METHODS["pipeline"].settings, ["adapter.rank=8"]))
    assert one == other


def test_curves_go_by_rounds_or_by_what_was_handed_over(tmp_path: Path) -> None:
    assert points(BETTER, "rounds", "personal") == ([1, 2, 3], [pytest.approx(v) for v in (0.8, 0.7, 0.6)])
    assert points(BETTER, "bytes", "cluster")[0] == [4.0, 8.0, 12.0]
    draw([PLAIN, BETTER], "bytes", tmp_path / "curves")
    assert (tmp_path / "curves.png").stat().st_size > 5000
    svg = (tmp_path / "curves.svg").read_text()
    assert "<svg" in svg
    draw([PLAIN, BETTER], "bytes", tmp_path / "again")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "curves.png").read_bytes()


def test_a_curve_of_blocks_spans_its_scale() -> None:
    assert curve([0.0, 0.5, 1.0, float("nan")], 0.0, 1.0) == "▁▅█·"
    assert curve([0.3], 0.3, 0.3) == "▁"


def test_runs_are_compared_over_all_clients_whoever_was_asked_last() -> None:
    whole = record(1, {"a": 0.8, "b": 0.6, "c": 0.4})
    resting = {c: who.model_copy(update={"asked": False, "test": None}) for c, who in whole.clients.items() if c != "a"}
    second = record(2, {"a": 0.5, "b": 9, "c": 9})
    second = second.model_copy(update={"clients": {**second.clients, **resting}})
    console = Console(file=StringIO(), width=200)
    comparison(console, {"one": [whole, second], "two": [whole]})
    one, two = console.file.getvalue().splitlines()[1:3]  # type: ignore[attr-defined]
    assert one.split() == ["one", "2", "2", "1.0000", "0.6000", "0.5000", "0.6000", "50.0", "%", "8.0", "6", "█▁"]
    assert two.split() == ["two", "1", "2", "1.0000", "0.7000", "0.6000", "0.8000", "40.0", "%", "4.0", "3", "█"]


def test_narrow_terminals_cut_neither_names_nor_numbers() -> None:
    console, names = Console(file=StringIO(), width=40), [f"bench-0-a-long-name-{i}" for i in range(2)]
    comparison(console, {name: [record(1, {"a": 0.8, "b": 0.6, "c": 0.4})] for name in names})
    lines = console.file.getvalue().splitlines()[1:3]  # type: ignore[attr-defined]
    assert [line.split()[:6] for line in lines] == [[name, "1", "2", "1.0000", "0.7000", "0.6000"] for name in names]


def test_what_was_assessed_beyond_own_pictures_stands_in_a_table_of_its_own() -> None:
    (line,) = [line for line in qualities([PLAIN, replace(BETTER, quality=QUALITY)]).splitlines() if line.startswith("| `")]
    assert line == "| `better` | 0 | 0.6000 | 0.5000 | 20 [10, 30] | 75 % | +0.100 [-0.100, +0.200] |"


def test_the_shortlist_is_chosen_by_pictures_that_are_not_reported() -> None:
    """The tuning loss of a client is one minus its test loss here."""
    assert {q: c.method for q, c in best([PLAIN, BETTER, replace(PLAIN, question="what")]).items()} == {"who": "fedavg", "what": "fedavg"}
    many = [cell(f"x{i}", f"q{i}", [record(1, dict.fromkeys("abc", loss))]) for i, loss in enumerate((0.1, 0.5, 0.3, 0.4))]
    base = [replace(PLAIN, method="local_slow", question=CENTRAL.question)]
    assert [name for name in shortlist([*base, *many]) if name.startswith("x")] == ["x1", "x3", "x2"]
    assert {"local_slow", "fedavg", *ABLATION.values()} <= set(shortlist([*base, *many]))


def test_bars_and_sensitivities_are_drawn(tmp_path: Path) -> None:
    bars(
        {"local only": [Interval(0.02, 0.01, 0.03), Interval(0.01, 0.0, 0.02)], "clusters": [Interval(-0.01, -0.02, 0.0)]},
        [3, 5],
        "x",
        tmp_path / "bars",
    )
    sensitivities({"rank": {"2": (0.7, 0.8), "4": (0.6, 0.7)}, "k": {"auto": (0.6, 0.6)}}, tmp_path / "lines")
    for name in ("bars", "lines"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()


def test_every_method_of_the_benchmark_is_a_federation_that_can_be_run() -> None:
    every = {*METHODS.values(), CENTRAL, *(method for of in SENSITIVITY.values() for method in of.values())}
    names = set()
    for method in every:
        made = read_federation(Path("federations/benchmark.yaml"), list(method.settings), run_name(method, 0, "0" * 32))
        assert len(made.clients) >= 40
        names.add(made.name)
    assert len(names) == len(every)
    assert set(ABLATION.values()) <= set(METHODS)
