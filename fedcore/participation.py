"""Who takes part in a round and how much it manages: client sampling, availability, stragglers, all from derived seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedcore.seeds import derive

UNIT = float(2**63)


def drawn(seed: int, *names: str | int) -> float:
    """A number in [0, 1) for one purpose."""
    return derive(seed, *names) / UNIT


@dataclass(frozen=True)
class Habits:
    """`share`: of the available clients, how many are asked. `available`: share of the time that a client can be reached.

    `period`: rounds after which its availability repeats (a day's, say); 1: every round is drawn anew. `stragglers`: share of
    the clients asked that are slow in a round; these manage the share `work` of the steps.
    """

    share: float
    available: float
    period: int
    stragglers: float
    work: float


def reachable(client: str, number: int, habits: Habits, seed: int) -> bool:
    """Is the client online in round `number`?

    With a period P > 1 it is for the `available` share of each period (in whole rounds: up or down by lot, so that the share
    holds over clients), beginning at a phase of its own, as people's devices are by day or by night; else each round is a draw
    of its own.
    """
    if habits.period == 1:
        return drawn(seed, "available", client, number) < habits.available
    phase = int(drawn(seed, "phase", client) * habits.period)
    hours = int(habits.available * habits.period + drawn(seed, "hours", client))
    return (number - 1 + phase) % habits.period < hours


def asked(clients: Sequence[str], number: int, habits: Habits, seed: int) -> list[str]:
    """The clients of round `number`, sorted: of those within reach the share `share` (rounded, at least one), by lot.

    Where nobody is, all are asked: the server waits until somebody is back.
    """
    online = [c for c in sorted(clients) if reachable(c, number, habits, seed)] or sorted(clients)
    wanted = max(1, round(habits.share * len(online)))
    return sorted(sorted(online, key=lambda c: derive(seed, "asked", number, c))[:wanted])


def steps_of(client: str, number: int, steps: int, habits: Habits, seed: int) -> int:
    """How many of the `steps` the client manages in round `number`: at least one."""
    slow = drawn(seed, "straggler", number, client) < habits.stragglers
    return max(1, round(habits.work * steps)) if slow else steps
