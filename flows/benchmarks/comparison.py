"""What the benchmark's cells come to: each set against plain federated LoRA of the same seed, in tables."""

from collections.abc import Sequence
from math import isclose
from statistics import fmean

from fedcore.statistics import Interval, paired
from flows.benchmarks.cells import Cell

PLAIN = "fedavg"
"""What every method is set against."""
DEFAULTS = "pipeline"
"""What a federation is where nothing is said."""


def difference(cell: Cell, plain: Cell) -> Interval:
    """The personal loss minus that of `plain`, client by client, of those that both have.

    Raises:
        ValueError: the same clients' pictures were others: the base itself has another loss on them.
    """
    if cell.clients == plain.clients and not isclose(cell.base, plain.base, rel_tol=1e-6):
        raise ValueError(f"{cell.method} and {plain.method} of seed {cell.seed} were measured on other pictures")
    mine, theirs = dict(zip(cell.clients, cell.losses, strict=True)), dict(zip(plain.clients, plain.losses, strict=True))
    both = sorted(set(mine) & set(theirs))
    return paired([mine[c] for c in both], [theirs[c] for c in both], seed=cell.seed)


def reached(cell: Cell, target: float) -> int | None:
    """The first round whose mean personal loss is at most `target`, counted from 1."""
    return next((i for i, loss in enumerate(cell.personal, start=1) if loss <= target), None)


def plain_of(cells: Sequence[Cell], seed: int) -> Cell:
    """Plain federated LoRA on a seed."""
    return _of(cells, PLAIN, seed)


def _of(cells: Sequence[Cell], method: str, seed: int) -> Cell:
    return next(cell for cell in cells if (cell.method, cell.seed) == (method, seed))


def best(cells: Sequence[Cell]) -> dict[str, Cell]:
    """The best method of each question, by the tuning pictures."""
    questions = dict.fromkeys(c.question for c in cells)
    return {q: min((c for c in cells if c.question == q), key=lambda c: c.tune) for q in questions}


LEGEND = """Losses are means over users on held-out pictures: `personal` of everybody's own model, `worst` of the user who is worst off,
`cluster` of the clusters' adapters; `− fedavg` is the personal loss less that of plain federated LoRA on the same seed, user by user.
`rounds` and `MB` are what it takes until that one's last loss is reached (MB both ways, all clients), `of MB` what the whole run sends.
`ARI`: how far clusters are the true styles; `agg. error`: how far a cluster's adapter is from the exact mean; `s`: seconds of
computation, on a machine that did other things as well.
"""
"""What the columns of `markdown` are."""


def markdown(cells: Sequence[Cell], plains: Sequence[Cell]) -> str:
    """The cells as tables, a question each, best first; `plains` has plain federated LoRA of every seed.

    Rounds and megabytes (both ways, all clients) until the plain one's last loss is reached.
    """
    head = "| method | seed | personal | worst | − fedavg [95 %] | cluster | rounds | MB | of MB | ARI | agg. error | s |"
    lines: list[str] = []
    for question in dict.fromkeys(c.question for c in cells):
        lines += [f"### {question[0].upper()}{question[1:]}", "", head, "|---" * 12 + "|"]
        for c in sorted((c for c in cells if c.question == question), key=lambda c: (c.seed, c.personal[-1])):
            plain = plain_of(plains, c.seed)
            d, at = difference(c, plain), reached(c, plain.personal[-1])
            row = [f"`{c.method}`", str(c.seed), f"{c.personal[-1]:.4f}", f"{max(c.losses):.3f}"]
            row += [f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]", f"{c.cluster[-1]:.4f}"]
            if len(c.personal) > 1:
                sent = [up + down for up, down in zip(c.bytes_up, c.bytes_down, strict=True)]
                row += [str(at or "–"), f"{sum(sent[:at]) / 1e6:.0f}" if at else "–", f"{sum(sent) / 1e6:.0f}"]
                row += [_short(c.ari), _short(c.aggregation_error), f"{sum(c.seconds):.0f}"]
            else:
                row += ["–"] * 6  # only the last round of what was not federated is an ordinary one
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def standing(cells: Sequence[Cell]) -> str:
    """Personal losses minus those of the defaults, a column for each seed, best first: below nought is better than the defaults."""
    seeds = sorted({c.seed for c in cells})
    found: dict[str, dict[int, Interval]] = {}
    for c in cells:
        found.setdefault(c.method, {})[c.seed] = difference(c, _of(cells, DEFAULTS, c.seed))
    lines = ["### Against the defaults", ""]
    lines += [f"| method | {' | '.join(f'− {DEFAULTS}, seed {seed} [95 %]' for seed in seeds)} |", "|---" * (1 + len(seeds)) + "|"]
    for method, by_seed in sorted(found.items(), key=lambda item: fmean(d.mean for d in item[1].values())):
        row = (f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]" if (d := by_seed.get(seed)) else "–" for seed in seeds)
        lines.append(f"| `{method}` | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def qualities(cells: Sequence[Cell]) -> str:
    """What was assessed beyond the clients' own pictures, as a table."""
    lines = ["### Beyond the clients' own pictures", ""]
    lines += ["| method | seed | other subjects | base styles | KID ×1000 [95 %] | retrieval | hybrid [95 %] |", "|---" * 7 + "|"]
    for c in cells:
        if (q := c.quality) is not None:
            kid = f"{1000 * q.kid.mean:.0f} [{1000 * q.kid.low:.0f}, {1000 * q.kid.high:.0f}]"
            hybrid = f"{q.hybrid.mean:+.3f} [{q.hybrid.low:+.3f}, {q.hybrid.high:+.3f}]"
            row = [
                f"`{c.method}`",
                str(c.seed),
                f"{q.other_subjects:.4f}",
                f"{q.base_styles:.4f}",
                kid,
                f"{100 * q.retrieval:.0f} %",
                hybrid,
            ]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
