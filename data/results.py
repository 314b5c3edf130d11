"""The table of a run: what `fedcore results` prints and what lies as `results.json` and `gallery.png` in the run's folder."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from data.emoji.styles import STYLES
from data.home import Home
from data.records import RoundRecord, bound, rounds
from data.store import write_atomically

KNOWN = frozenset(style.name for style in STYLES)
"""What the classifier can tell apart."""


def results(home: Home, name: str) -> dict[str, Any]:
    """The results of a run as documented JSON (docs/results-json.md).

    Raises:
        ConfigError: there is no such run.
    """
    federation, records = bound(home.server(), name), rounds(home.server(), name)
    last = records[-1] if records else None
    state = "finished" if len(records) >= federation.rounds else "unfinished"
    return {
        "name": name,
        "state": state,
        "config": federation.model_dump(mode="json"),
        "rounds": [_round(r) for r in records],
        "clients": _clients(last) if last else [],
        "clusters": [
            {"id": i, "size": len(c.members), "rank": c.rank, "adapter_sha256": c.adapter.sha256} for i, c in sorted(last.clusters.items())
        ]
        if last
        else [],
        "summary": _summary(records),
        "artifacts": {"gallery": str(home.run(name) / "gallery.png"), "mlflow_uri": home.tracking_uri},
    }


def _round(r: RoundRecord) -> dict[str, Any]:
    errors = [c.aggregation_error for c in r.clusters.values() if c.aggregation_error is not None]
    return {
        "round": r.round,
        "seconds": round(r.seconds, 2),
        "bytes_up": r.bytes_up,
        "bytes_down": r.bytes_down,
        "clusters": {str(i): c.members for i, c in sorted(r.clusters.items())},
        "clients_failed": {c: who.failed for c, who in r.clients.items() if who.failed},
        "aggregation_error": sum(errors) / len(errors) if errors else None,
    }


def _clients(r: RoundRecord) -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "style": c.group,
            "samples": c.samples,
            "cluster": c.cluster,
            "adapter_sha256": c.personal.sha256 if c.personal else None,
            "own_share": c.share,
            "loss": c.test or dict.fromkeys(("base", "cluster", "other_cluster", "personal")),
        }
        for name, c in sorted(r.clients.items())
    ]


def gain(loss: dict[str, float | None]) -> float | None:
    """How far the personal loss lies below the base's, as a share of the base's."""
    base, personal = loss["base"], loss["personal"]
    return None if not base or personal is None else 1 - personal / base


Losses = Mapping[str, float]


def known_so_far(records: Sequence[RoundRecord], split: Literal["test", "tune"]) -> list[dict[str, Losses]]:
    """After every round, each client's losses where they were measured last."""
    known, out = dict[str, Losses](), list[dict[str, Losses]]()
    for record in records:
        for client, who in record.clients.items():
            if losses := who.test if split == "test" else who.tune:
                known[client] = {what: value for what, value in losses.items() if value is not None}
        out.append(dict(known))
    return out


def mean_of(what: str, losses: Mapping[str, Losses]) -> float:
    """The mean of one loss over the clients that have it."""
    values = [each[what] for each in losses.values() if what in each]
    return sum(values) / len(values) if values else float("nan")


def agreement(known: list[tuple[int, str]]) -> float:
    """Adjusted Rand index of clusters and groups: 1 is equality, 0 is chance."""
    from sklearn.metrics import adjusted_rand_score  # a second to import, and most commands need no table

    return float(adjusted_rand_score([group for _, group in known], [cluster for cluster, _ in known]))


def _summary(records: list[RoundRecord]) -> dict[str, Any]:
    if not records:
        return dict.fromkeys(("ari", "gain_personal_mean", "style_accuracy", "seconds"))
    last = records[-1]
    gains = [g for c in last.clients.values() if c.test and (g := gain(c.test)) is not None]
    known = [(c.cluster, c.group) for c in last.clients.values() if c.cluster is not None and c.group is not None]
    placed = [c for c in last.clients.values() if c.cluster is not None]
    comparable = bool(placed) and len(known) == len(placed)
    return {
        "ari": agreement(known) if comparable else None,
        "gain_personal_mean": sum(gains) / len(gains) if gains else None,
        "style_accuracy": style_accuracy(last) if comparable else None,
        "seconds": round(sum(r.seconds for r in records), 2),
    }


def style_accuracy(r: RoundRecord) -> float | None:
    """Share of the clusters' gallery pictures that are taken for the style of most of the cluster's members.

    None where no classifier looked at the pictures, or it does not know such a style.
    """
    hits = total = 0
    for i, c in r.clusters.items():
        if not c.members:
            continue
        named = r.styles.get(f"cluster {i}")
        groups = Counter(group for m in c.members if (group := r.clients[m].group))
        if not named or not groups:
            return None
        wanted = min(groups, key=lambda g: (-groups[g], g))
        if wanted not in KNOWN:
            return None
        hits, total = hits + sum(style == wanted for style in named), total + len(named)
    return hits / total if total else None


def write_results(home: Home, name: str) -> None:
    """Leave `results.json` and the last round's `gallery.png` in the run's folder."""
    made = results(home, name)
    write_atomically(home.run(name) / "results.json", (json.dumps(made, indent=1) + "\n").encode())
    last = rounds(home.server(), name)[-1]
    write_atomically(home.run(name) / "gallery.png", home.server().get(last.gallery))
