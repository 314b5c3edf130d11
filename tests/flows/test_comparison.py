"""What the benchmark's cells come to: against numbers worked out by hand."""

from pathlib import Path

import pytest

from data.records import ClientRecord, ClusterRecord, RoundRecord
from data.store import Ref
from fedcore.statistics import Interval
from flows.benchmarks.comparison import best, columns, markdown, qualities, row
from flows.benchmarks.methods import ABLATION, CENTRAL, METHODS, SENSITIVITY, run_name
from flows.benchmarks.plots import bars, draw, points, sensitivities
from flows.benchmarks.quality import Quality
from flows.benchmarks.suite import shortlist
from flows.display import curve

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


PLAIN = [record(n, dict.fromkeys("abc", loss)) for n, loss in ((1, 0.9), (2, 0.8), (3, 0.7))]
BETTER = [record(1, {"a": 0.8, "b": 0.8, "c": 0.8}), record(2, {"a": 0.6, "b": 0.7, "c": 0.8}), record(3, {"a": 0.5, "b": 0.6, "c": 0.7})]


def test_a_row_says_how_far_and_how_soon() -> None:
    made = row("better", "who", 0, BETTER, PLAIN)
    assert (made.personal, made.worst, made.cluster, made.base) == tuple(map(pytest.approx, (0.6, 0.7, 0.7, 1.0)))
    assert made.difference.mean == pytest.approx(-0.1)  # of −0.2, −0.1 and 0
    assert made.difference.low == pytest.approx(-0.2)
    assert made.difference.high == pytest.approx(0.0, abs=1e-12)
    assert (made.rounds, made.bytes_up) == (2, 4_000_000)
    assert (made.clusters, made.ari, made.aggregation_error, made.seconds) == (2, 1.0, pytest.approx(0.2), 9.0)


def test_who_never_gets_there_has_no_round_for_it() -> None:
    made = row("worse", "who", 0, PLAIN[:2], BETTER)
    assert (made.rounds, made.bytes_up) == (None, None)


def test_tables_hold_every_row_best_first() -> None:
    rows = [row("plain", "who", 0, PLAIN, PLAIN), row("better", "who", 0, BETTER, PLAIN)]
    lines = [line for line in markdown(rows).splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == ["better", "plain"]
    assert "-0.1000 [-0.2000, +0.0000]" in lines[0]
    assert columns(rows)["difference"] == [0.0, pytest.approx(-0.1)]
    assert columns(rows)["method"] == ["plain", "better"]


def test_curves_go_by_rounds_or_by_what_was_handed_over(tmp_path: Path) -> None:
    assert points(BETTER, "rounds", "personal") == ([1, 2, 3], [pytest.approx(v) for v in (0.8, 0.7, 0.6)])
    assert points(BETTER, "bytes", "cluster")[0] == [2.0, 4.0, 6.0]
    draw({"plain": PLAIN, "better": BETTER}, "bytes", tmp_path / "curves")
    assert (tmp_path / "curves.png").stat().st_size > 5000
    svg = (tmp_path / "curves.svg").read_text()
    assert "<svg" in svg
    draw({"plain": PLAIN, "better": BETTER}, "bytes", tmp_path / "again")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "curves.png").read_bytes()


def test_a_curve_of_blocks_spans_its_scale() -> None:
    assert curve([0.0, 0.5, 1.0, float("nan")], 0.0, 1.0) == "▁▅█·"
    assert curve([0.3], 0.3, 0.3) == "▁"


QUALITY = Quality(0.6, 0.5, Interval(0.02, 0.01, 0.03), 0.75, Interval(0.1, -0.1, 0.2))


def test_what_was_assessed_beyond_own_pictures_stands_in_its_own_columns() -> None:
    rows = [row("plain", "who", 0, PLAIN, PLAIN), row("better", "who", 0, BETTER, PLAIN, QUALITY)]
    (line,) = [line for line in qualities(rows).splitlines() if line.startswith("| `")]
    assert line == "| `better` | 0 | 0.6000 | 0.5000 | 20 [10, 30] | 75 % | +0.100 [-0.100, +0.200] |"
    found = columns(rows)
    assert [found[name] for name in ("kid", "kid_low", "kid_high", "retrieval")] == [[None, v] for v in (0.02, 0.01, 0.03, 0.75)]
    assert "quality" not in found
    assert len({len(column) for column in found.values()}) == 1


def test_the_shortlist_is_chosen_by_pictures_that_are_not_reported() -> None:
    rows = [row("plain", "who", 0, PLAIN, PLAIN), row("better", "who", 0, BETTER, PLAIN), row("other", "what", 0, PLAIN, PLAIN)]
    assert {question: r.method for question, r in best(rows).items()} == {"who": "plain", "what": "other"}  # its tuning loss is lower
    many = [row(f"m{i}", f"q{i}", 0, [record(1, dict.fromkeys("abc", loss))], PLAIN) for i, loss in enumerate((0.1, 0.5, 0.3, 0.4))]
    base = [row("local", CENTRAL.question, 0, PLAIN, PLAIN)]
    assert [name for name in shortlist([*base, *many]) if name.startswith("m")] == ["m1", "m3", "m2"]
    assert {"local", "fedavg", *ABLATION.values()} <= set(shortlist([*base, *many]))


def test_bars_and_sensitivities_are_drawn(tmp_path: Path) -> None:
    bars(
        {"local only": [Interval(0.02, 0.01, 0.03), Interval(0.01, 0.0, 0.02)], "clusters": [Interval(-0.01, -0.02, 0.0)]},
        "x",
        tmp_path / "bars",
    )
    sensitivities({"rank": {"2": (0.7, 0.8), "4": (0.6, 0.7)}, "k": {"auto": (0.6, 0.6)}}, tmp_path / "lines")
    for name in ("bars", "lines"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()


def test_every_method_of_the_benchmark_is_a_federation_that_can_be_run() -> None:
    from data.federations import read_federation

    every = [*METHODS.values(), CENTRAL, *(method for of in SENSITIVITY.values() for method in of.values())]
    names = set()
    for method in every:
        made = read_federation(Path("federations/benchmark.yaml"), list(method.settings), run_name(method, 0))
        assert len(made.clients) >= 40
        names.add(made.name)
    assert len(names) == len(every)
    assert set(ABLATION.values()) <= set(METHODS)
