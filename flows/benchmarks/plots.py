"""The benchmark's pictures: how losses fall by round and by bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from data.records import RoundRecord

Rounds = Mapping[str, Sequence[RoundRecord]]
"""Finished rounds by method."""
Against = Literal["rounds", "bytes"]


def points(records: Sequence[RoundRecord], against: Against, what: str) -> tuple[list[float], list[float]]:
    """A curve: rounds or megabytes handed over so far, and the mean held-out loss."""
    sent, x = 0, list[float]()
    for record in records:
        sent += record.bytes_up
        x.append(record.round if against == "rounds" else sent / 1e6)
    return x, [record.mean(what, "test") for record in records]


def draw(runs: Rounds, against: Against, out: Path) -> None:
    """Personal and cluster losses side by side, as `<out>.png` and `<out>.svg`."""
    from matplotlib import use
    from matplotlib.figure import Figure

    use("svg")
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, what, title in zip(axes, ("personal", "cluster"), ("personal models", "clusters' adapters"), strict=True):
        for name, records in runs.items():
            axis.plot(*points(records, against, what), marker="o", markersize=3, label=name)
        axis.set_title(title)
        axis.set_xlabel("round" if against == "rounds" else "MB handed over by all clients")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mean held-out loss")
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out.with_suffix(".png"), dpi=110)
    figure.savefig(out.with_suffix(".svg"), metadata={"Date": None})
