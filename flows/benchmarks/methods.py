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
EQUAL = "adapter.rank=8"
GLOBAL = ("clustering.k=1", "interaction.method=none", EQUAL)
BOTH = ("clustering.on=both",)


@dataclass(frozen=True)
class Method:
    """A cell of the benchmark: what is set differently from the federation's file."""

    name: str
    settings: tuple[str, ...]


def _methods(of: Mapping[str, Sequence[str]]) -> dict[str, Method]:
    return {name: Method(name, tuple(settings)) for name, settings in of.items()}


METHODS = _methods(
    {
        # baselines
        "local": ("clustering.method=alone", "interaction.method=none", "aggregation.method=fedavg", EQUAL),
        "fedavg": (*GLOBAL, "aggregation.method=fedavg"),
        # who learns together
        "wishes": (EQUAL, "aggregation.method=fedavg", "interaction.method=none"),
        "adapters": (EQUAL, "aggregation.method=fedavg", "interaction.method=none", "clustering.on=adapters"),
        "both": (EQUAL, "aggregation.method=fedavg", "interaction.method=none", *BOTH),
    }
)


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
