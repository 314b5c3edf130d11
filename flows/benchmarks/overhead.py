"""What a round costs beside model computation: Prefect, MLflow, the store, the checks."""

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from data import manifests
from data.clients import serve
from data.home import Home
from data.journal import read_journal
from data.records import bound
from flows.alone import alone
from flows.round import federated_round
from flows.temporary_server import temporary_server
from tasks._dispatch import warm

DATABASE = "from data.home import Home; from tasks._tracking import connect; connect(Home.current())"
"""Makes MLflow's database, in a process of its own: what the first round imports is part of its cost."""


@dataclass(frozen=True)
class Cost:
    """One round, in seconds: `wall` from the call of its flow to its end, `computing` the part in which some stage was being computed."""

    round: int
    wall: float
    computing: float

    @property
    def rest(self) -> float:
        """Seconds without any computation."""
        return self.wall - self.computing

    @property
    def share(self) -> float:
        """The rest as a share of the whole."""
        return self.rest / self.wall


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of the union of intervals (begin, end)."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def overhead(home: Home, name: str) -> Iterator[Cost]:
    """Compute the rounds of a run that has not begun, and tell the cost of each.

    Servers are warm, as under `fedcore up`: Prefect's answers, MLflow's database is there, worker processes have the base.
    A stage's manifest says how long it was computed (model computation with reading and writing its blobs) and when it was done.
    """
    subprocess.run([sys.executable, "-c", DATABASE], check=True)
    with temporary_server(), alone(home, name):
        serve(home, name)
        for loaded in warm(bound(home.server(), name)):
            loaded()
        for number in range(1, bound(home.server(), name).rounds + 1):
            began = time.time()
            federated_round(name, number)
            ended = time.time()
            keys = read_journal(home.server(), name, number)
            made = (manifests.read(home.server(), stage, key) for stage, of in keys.items() for key in of.values())
            spans = [(max(began, m.finished - m.seconds), m.finished) for m in made if m is not None and m.finished > began]
            yield Cost(number, ended - began, covered(spans))
