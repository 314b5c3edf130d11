"""What the benchmark's cells come to: a row for each method and seed, set against plain federated LoRA of the same seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from data.records import RoundRecord
from data.results import agreement
from fedcore.statistics import Interval, paired
from flows.benchmarks.quality import Quality

PLAIN = "fedavg"
"""What every method is set against."""


@dataclass(frozen=True)
class Row:
    """One method on one seed; losses are held-out ones, means over clients but for `worst`.

    `difference` is the personal loss minus that of `PLAIN`, client by client. `rounds` and `bytes_up` say when the method first
    reached `PLAIN`'s last personal loss; None where it did not. By `tune` one may choose: no test picture counts in it.
    """

    method: str
    question: str
    seed: int
    base: float
    cluster: float
    personal: float
    tune: float
    worst: float
    difference: Interval
    rounds: int | None
    bytes_up: int | None
    clusters: int
    ari: float | None
    aggregation_error: float | None
    seconds: float
    total_bytes_up: int
    total_bytes_down: int
    quality: Quality | None = None


def losses(record: RoundRecord, what: str = "personal") -> dict[str, float]:
    """A loss of every client that has it, on the test split."""
    return {c: value for c, who in record.clients.items() if who.test and (value := who.test[what]) is not None}


def reached(records: Sequence[RoundRecord], target: float) -> RoundRecord | None:
    """The first round whose mean personal loss is at most `target`."""
    return next((r for r in records if r.mean("personal", "test") <= target), None)


def row(
    method: str,
    question: str,
    seed: int,
    records: Sequence[RoundRecord],
    plain: Sequence[RoundRecord],
    quality: Quality | None = None,
) -> Row:
    """A method's row; `plain` are the rounds of plain federated LoRA on the same seed."""
    last, mine, theirs = records[-1], losses(records[-1]), losses(plain[-1])
    both = sorted(set(mine) & set(theirs))
    target = reached(records, plain[-1].mean("personal", "test"))
    errors = [c.aggregation_error for c in last.clusters.values() if c.aggregation_error is not None]
    known = [(c.cluster, c.group) for c in last.clients.values() if c.cluster is not None and c.group is not None]
    return Row(
        method=method,
        question=question,
        seed=seed,
        base=last.mean("base", "test"),
        cluster=last.mean("cluster", "test"),
        personal=last.mean("personal", "test"),
        tune=last.mean("personal", "tune"),
        worst=max(mine.values()),
        difference=paired([mine[c] for c in both], [theirs[c] for c in both], seed=seed),
        rounds=target.round if target else None,
        bytes_up=sum(r.bytes_up for r in records if r.round <= target.round) if target else None,
        clusters=len(last.clusters),
        ari=agreement(known) if known else None,
        aggregation_error=sum(errors) / len(errors) if errors else None,
        seconds=sum(r.seconds for r in records),
        total_bytes_up=sum(r.bytes_up for r in records),
        total_bytes_down=sum(r.bytes_down for r in records),
        quality=quality,
    )


def best(rows: Sequence[Row]) -> dict[str, Row]:
    """The best method of each question, by the tuning pictures."""
    questions = dict.fromkeys(r.question for r in rows)
    return {q: min((r for r in rows if r.question == q), key=lambda r: r.tune) for q in questions}


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table, best first within each question."""
    head = "| method | seed | personal | worst | − fedavg [95 %] | cluster | rounds | MB up | ARI | agg. error | s |"
    lines: list[str] = []
    questions = list(dict.fromkeys(r.question for r in rows))
    for question in questions:
        lines += [f"### {question}", "", head, "|---" * 11 + "|"]
        for r in sorted((r for r in rows if r.question == question), key=lambda r: (r.seed, r.personal)):
            d, megabytes = r.difference, "–" if r.bytes_up is None else f"{r.bytes_up / 1e6:.0f}"
            cells = [f"`{r.method}`", str(r.seed), f"{r.personal:.4f}", f"{r.worst:.3f}", f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"]
            cells += [f"{r.cluster:.4f}", str(r.rounds or "–"), megabytes, _short(r.ari), _short(r.aggregation_error), f"{r.seconds:.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def qualities(rows: Sequence[Row]) -> str:
    """What was assessed beyond the clients' own pictures, as a table."""
    lines = ["| method | seed | other subjects | base styles | KID ×1000 [95 %] | retrieval | hybrid [95 %] |", "|---" * 7 + "|"]
    for r in rows:
        if (q := r.quality) is not None:
            kid = f"{1000 * q.kid.mean:.0f} [{1000 * q.kid.low:.0f}, {1000 * q.kid.high:.0f}]"
            hybrid = f"{q.hybrid.mean:+.3f} [{q.hybrid.low:+.3f}, {q.hybrid.high:+.3f}]"
            cells = [
                f"`{r.method}`",
                str(r.seed),
                f"{q.other_subjects:.4f}",
                f"{q.base_styles:.4f}",
                kid,
                f"{100 * q.retrieval:.0f} %",
                hybrid,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def columns(rows: Sequence[Row]) -> Mapping[str, list[object]]:
    """The rows as columns, intervals spread over three; what was not assessed is None."""
    return {name: [flat[name] for flat in map(_flat, rows)] for name in _flat(rows[0])} if rows else {}


def _flat(r: Row) -> dict[str, object]:
    assessed = {f.name: getattr(r.quality, f.name, None) for f in fields(Quality)}
    flat: dict[str, object] = {}
    for name, value in ({f.name: getattr(r, f.name) for f in fields(Row) if f.name != "quality"} | assessed).items():
        if name in SPREAD:
            parts = (value.mean, value.low, value.high) if isinstance(value, Interval) else (None, None, None)
            flat |= dict(zip((name, f"{name}_low", f"{name}_high"), parts, strict=True))
        else:
            flat[name] = value
    return flat


SPREAD = ("difference", "kid", "hybrid")
"""Columns that are intervals."""
