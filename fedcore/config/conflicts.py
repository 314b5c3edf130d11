"""Which methods cannot go with which others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedcore.aggregation import AGGREGATIONS
from fedcore.clustering import BY_LOSS, MOST_ALIKE
from fedcore.interaction import INTERACTIONS

if TYPE_CHECKING:
    from fedcore.config.whole import Federation


def conflicts(f: Federation) -> Iterator[str]:
    """Each in a line that says what to do."""
    yield from _of_aggregation(f)
    yield from _of_clustering(f)
    yield from _of_choosing(f)


def _of_aggregation(f: Federation) -> Iterator[str]:
    method, rule, exchange = f.aggregation.method, f.aggregation.rule, f.interaction.method
    if not rule.mixed_ranks and isinstance(f.adapter.rank, dict) and len(set(f.adapter.rank.values())) > 1:
        able = ", ".join(sorted(name for name, r in AGGREGATIONS.items() if r.mixed_ranks))
        yield f"aggregation.method '{method}' needs equal ranks, but adapter.rank differs by device class; use one of {able}"
    if f.aggregation.server.method != "none":
        steady = sorted(name for name, r in AGGREGATIONS.items() if r.split == "head" and not r.mixed_ranks)
        if method not in steady:
            yield f"aggregation.server works on factors, which '{method}' makes anew every round; use one of {', '.join(steady)}"
        if exchange != "none" and not INTERACTIONS[exchange].beside:
            yield (f"aggregation.server works on factors, which interaction.method '{exchange}' makes anew every round; set that to 'none'")
    if rule.shares is not None:
        if exchange != "none" or f.personal.method != "last":
            yield f"aggregation.method '{method}' gives clusters no update: set interaction.method to 'none', personal.method to 'last'"
        if f.clustering.on != "requirements" or f.clustering.method == BY_LOSS:
            yield (
                f"with aggregation.method '{method}' the server has no updates to group clients by: set clustering.on to "
                f"'requirements', and clustering.method to another than '{BY_LOSS}'"
            )
    if f.personal.method == "ditto" and f.beside:
        yield (
            f"personal.method 'ditto' goes on with an adapter of its own, which '{method}' with interaction.method '{exchange}' "
            f"sets beside another one every round; use a rule like 'svd' and an interaction like 'similarity'"
        )
    if f.personal.method == "dual" and any(rule.handed_over(number) for number in (1, 2)):
        yield f"personal.method 'dual' needs whole adapters, '{method}' hands over one factor; use another rule"


def _of_clustering(f: Federation) -> Iterator[str]:
    of = f.clustering
    if of.method in ("alone", "hdbscan") and of.k != "auto":
        yield f"clustering.method '{of.method}' finds the number of clusters itself: leave out clustering.k"
    if of.method == "alone" and f.interaction.method != "none":
        yield "clustering.method 'alone' is local training only: set interaction.method to 'none'"
    if of.method == "alone" and of.soft is not None:
        yield "clustering.method 'alone' is local training only: leave out clustering.soft"
    if of.on != "requirements" and len(f.clients) > MOST_ALIKE:
        yield (
            f"clustering.on '{of.on}' compares each of the {len(f.clients)} clients with every other one, which is done for up to "
            f"{MOST_ALIKE}; set it to 'requirements'"
        )


def _of_choosing(f: Federation) -> Iterator[str]:
    """Where clients choose their cluster themselves."""
    of = f.clustering
    if of.method != BY_LOSS:
        return
    if of.k == "auto":
        yield f"clustering.method '{BY_LOSS}' cannot find the number of clusters itself; set clustering.k"
    if not f.evaluation.others:
        yield f"clustering.method '{BY_LOSS}' needs every cluster's loss; set evaluation.others to true"
    if of.warmup:
        yield f"clustering.method '{BY_LOSS}' has several clusters from the first round on; set clustering.warmup to 0"
    if of.soft is not None:
        yield f"clustering.method '{BY_LOSS}' has no soft membership; leave out clustering.soft"
