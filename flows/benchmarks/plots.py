"""The benchmark's pictures: how losses fall by round and by bytes, what each part adds, how sensitive the result is."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Literal

from fedcore.statistics import Interval
from flows.benchmarks.cells import Cell
from flows.benchmarks.split import VARIANTS, Costs, Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Against = Literal["rounds", "bytes"]
WHAT: tuple[Literal["personal"], Literal["cluster"]] = ("personal", "cluster")


def points(cell: Cell, against: Against, what: Literal["personal", "cluster"]) -> tuple[list[float], list[float]]:
    """A curve: rounds or megabytes sent so far, and the mean held-out loss."""
    sent = [total / 1e6 for total in accumulate(up + down for up, down in zip(cell.bytes_up, cell.bytes_down, strict=True))]
    return list(range(1, len(sent) + 1)) if against == "rounds" else sent, list(getattr(cell, what))


def draw(cells: Sequence[Cell], against: Against, out: Path) -> None:
    """Personal and cluster losses side by side, as `<out>.png` and `<out>.svg`."""
    figure = _figure(11, 4.2)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, what, title in zip(axes, WHAT, ("personal models", "clusters' adapters"), strict=True):
        for cell in cells:
            axis.plot(*points(cell, against, what), marker="o", markersize=3, label=cell.method)
        axis.set_title(title)
        axis.set_xlabel("round" if against == "rounds" else "MB sent both ways, all clients")
        if against == "bytes":
            axis.set_xscale("log")  # some methods send ten times as much
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mean held-out loss")
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    _save(figure, out)


def bars(differences: Mapping[str, Sequence[Interval]], seeds: Sequence[int], against: str, out: Path) -> None:
    """Differences of personal losses to those of one method, a bar for each of the `seeds`, with intervals: below nought is better."""
    figure = _figure(9, 4.2)
    axis = figure.subplots()
    for i, each in enumerate(differences.values()):
        for s, d in enumerate(each):
            at, width = i + (s - (len(each) - 1) / 2) * 0.8 / len(seeds), 0.7 / len(seeds)
            label = f"seed {seeds[s]}" if i == 0 else None
            axis.bar(at, d.mean, width, yerr=[[d.mean - d.low], [d.high - d.mean]], capsize=2, color=f"C{s}", ecolor="0.3", label=label)
    axis.axhline(0, color="0.3", linewidth=0.8)
    axis.set_xticks(range(len(differences)), [fill(name, 14) for name in differences], fontsize=8)
    axis.legend(fontsize=8)
    axis.set_ylabel(f"personal loss − that of {against}")
    axis.set_title("by seed, with 95 % intervals over clients")
    axis.grid(axis="y", alpha=0.3)
    _save(figure, out)


def sensitivities(found: Mapping[str, Mapping[str, tuple[float, float]]], out: Path) -> None:
    """For each setting its values' personal and cluster losses."""
    figure = _figure(2.6 * len(found), 3.4)
    for axis, (title, values) in zip(figure.subplots(1, len(found), sharey=True, squeeze=False)[0], found.items(), strict=True):
        for which, label in enumerate(("personal models", "clusters' adapters")):
            axis.plot(list(values), [both[which] for both in values.values()], marker="o", markersize=4, label=label)
        axis.set_title(title)
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("mean held-out loss")
    figure.axes[-1].legend(fontsize=8)
    _save(figure, out)


def splits(points: Sequence[Point], costs: Costs, out: Path) -> None:
    """Over the steps that the server takes: how good and how like the personal model's the pictures are, and what they cost."""
    figure = _figure(14, 3.8)
    kid, right, like, cost = figure.subplots(1, 4)
    alone = [point for point in points if point.done == 0]
    for variant, told in VARIANTS.items():
        of = [*alone, *(point for point in points if point.variant == variant and point.done)]
        at = [point.done for point in of]
        for axis, intervals in ((kid, [point.farther for point in of]), (like, [point.agreement for point in of])):
            axis.plot(at, [i.mean for i in intervals], marker="o", markersize=4, label=told)
            axis.fill_between(at, [i.low for i in intervals], [i.high for i in intervals], alpha=0.15)
        right.plot(at, [100 * point.retrieval for point in of], marker="o", markersize=4, label=told)
    done = sorted({point.done for point in points})
    for users in costs.step:
        cost.plot(done, [costs.server(n, users) for n in done], marker="o", markersize=4, label=f"server, {users} in a batch")
    cost.plot(done, [costs.device(n) for n in done], "k--", label="device as fast")
    for axis, title in zip(
        figure.axes,
        (
            "kernel distance, to the personal model's",
            "in the user's style, %",
            "agreement with the personal model",
            "seconds for each user",
        ),
        strict=True,
    ):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("steps by the server")
        axis.grid(alpha=0.3)
    right.set_ylim(0, 100)
    right.legend(fontsize=7)
    cost.legend(fontsize=7)
    _save(figure, out)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib import use
    from matplotlib.figure import Figure

    use("svg")
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", out: Path) -> None:
    """As PNG and SVG; the same figure gives the same bytes."""
    from matplotlib import rc_context

    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out.with_suffix(".png"), dpi=110)
    with rc_context({"svg.hashsalt": "fedcore"}):
        figure.savefig(out.with_suffix(".svg"), metadata={"Date": None})
