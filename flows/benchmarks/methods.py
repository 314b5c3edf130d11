"""Every method on the same harder federation, with the same budget: ordinary federations, one a cell, resumable."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from data.clients import remember_clients, serve
from data.emoji.benchmark import write_clients
from data.federations import client_folder, read_federation
from data.home import Home
from data.records import RoundRecord, bind, bound, rounds
from data.store import write_atomically
from flows.training import federated_training
from tasks._dispatch import warm

FILE = Path("federations/benchmark.yaml")
EQUAL = ("adapter.rank=8",)
FEDAVG = ("aggregation.method=fedavg",)
APART = ("interaction.method=none",)
CLUSTERS = (*EQUAL, *FEDAVG, *APART, "clustering.on=both")
"""Clusters of equal rank that take nothing from each other: what every other choice is measured against."""
FULL = ("clustering.on=both", "aggregation.method=svd_rest")


@dataclass(frozen=True)
class Method:
    """A cell of the benchmark: what is set differently from the federation's file, and the question that it belongs to."""

    name: str
    question: str
    settings: tuple[str, ...]


def _asked(question: str, of: Mapping[str, Sequence[str]]) -> dict[str, Method]:
    return {name: Method(name, question, tuple(settings)) for name, settings in of.items()}


METHODS: dict[str, Method] = {
    **_asked(
        "baselines",
        {
            "local": (*EQUAL, *FEDAVG, *APART, "clustering.method=alone"),
            "fedavg": (*EQUAL, *FEDAVG, *APART, "clustering.k=1"),
        },
    ),
    **_asked(
        "who learns together",
        {
            "wishes": (*EQUAL, *FEDAVG, *APART),
            "adapters": (*EQUAL, *FEDAVG, *APART, "clustering.on=adapters"),
            "both": CLUSTERS,
            "agglomerative": (*CLUSTERS, "clustering.method=agglomerative"),
            "hdbscan": (*CLUSTERS, "clustering.method=hdbscan"),
            "ifca": (*CLUSTERS, "clustering.method=ifca", "clustering.k=6", "evaluation.others=true"),
            "soft": (*CLUSTERS, "clustering.soft=0.2"),
        },
    ),
    **_asked(
        "aggregation",
        {
            rule: (*CLUSTERS, f"aggregation.method={rule}")
            for rule in ("svd", "svd_rest", "stack", "fedex", "hetlora", "ffa", "rolora", "fedsa", "lora_fair")
        },
    ),
    **_asked(
        "mixed ranks",
        {
            f"mixed_{rule}": (*APART, "clustering.on=both", f"aggregation.method={rule}")
            for rule in ("svd", "svd_rest", "svd_rank_aware", "stack", "hetlora")
        },
    ),
    **_asked(
        "server optimiser",
        {
            "momentum": (*CLUSTERS, "aggregation.server.method=momentum", "aggregation.server.beta1=0.5"),
            "adam": (*CLUSTERS, "aggregation.server.method=adam", "aggregation.server.lr=0.005"),
            "yogi": (*CLUSTERS, "aggregation.server.method=yogi", "aggregation.server.lr=0.005"),
        },
    ),
    **_asked(
        "what clusters learn from each other",
        {
            "similarity": (*EQUAL, *FULL, "interaction.own=0.8"),
            "attention": (*EQUAL, *FULL, "interaction.method=attention", "interaction.own=0.8"),
            "rest_of_the_world": (*EQUAL, *FULL, "interaction.method=rest_of_the_world", "interaction.own=0.5"),
            "annealed": (*EQUAL, *FULL, "interaction.own=0.5", "interaction.own_last=1.0", "interaction.over=6"),
        },
    ),
    **_asked(
        "what a client keeps for itself",
        {
            "prox": (*CLUSTERS, "training.prox=0.01"),
            "ditto": (*CLUSTERS, "training.steps=5", "personal.method=ditto", "personal.steps=5"),
            "dual": (*CLUSTERS, "training.steps=5", "personal.method=dual", "personal.steps=5"),
        },
    ),
    **_asked(
        "who takes part",
        {
            "half": (*CLUSTERS, "participation.share=0.5"),
            "stragglers": (*CLUSTERS, "participation.stragglers=0.5"),
            "by_day": (*CLUSTERS, "participation.available=0.6", "participation.period=4"),
        },
    ),
}


def run_name(method: Method, seed: int) -> str:
    """The run of a cell."""
    return f"bench-{seed}-{method.name}".replace("_", "-")


def prepare(home: Home, seed: int) -> Path:
    """The federation file of a seed with its clients' files beside it, on the clients' side of the state folder."""
    folder = home.private("_benchmark") / f"seed-{seed}"
    file = folder / "benchmark.yaml"
    if not file.exists():
        write_clients(client_folder(file), seed)
        values = {**yaml.safe_load(FILE.read_text(encoding="utf-8")), "seed": seed}
        write_atomically(file, yaml.safe_dump(values).encode())
    return file


def run_cell(home: Home, method: Method, seed: int, further: Sequence[str] = ()) -> Iterator[RoundRecord]:
    """Compute what is missing of a cell; its rounds."""
    file = prepare(home, seed)
    federation = read_federation(file, [*method.settings, *further], run_name(method, seed))
    bind(home.server(), federation)
    remember_clients(home, federation.name, client_folder(file))
    if len(rounds(home.server(), federation.name)) < bound(home.server(), federation.name).rounds:
        serve(home, federation.name)
        warm(federation.base)
        federated_training(federation.name)
    yield from rounds(home.server(), federation.name)
