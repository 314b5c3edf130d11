"""A client's accepted adapter as the server's stages read it."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import BaseModel, ConfigDict

from data.home import Home
from data.store import Ref, Store
from fedcore.adapters import Adapter, Factor, Layer, completed, concatenated, from_bytes


class Handed(BaseModel):
    """`adapter` is what was handed over, only the factor `hands` of it where that is given; the client began with `start`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: Ref
    start: Ref
    hands: Factor | None = None

    def load(self, store: Store) -> dict[str, Layer]:
        """Both factors: a factor that was not handed over is that of the start.

        Raises:
            AdapterRefused: it is no such adapter.
        """
        blob = store.get(self.adapter)
        return from_bytes(blob) if self.hands is None else completed(blob, self.hands, from_bytes(store.get(self.start)))


class Member(Handed):
    """`tail` stood frozen beside what the client trained and is part of its update; `weight` is not normalised."""

    tail: Ref | None = None
    weight: float


def learnt(handed: Mapping[str, Handed]) -> list[Adapter]:
    """What each client's training changed, `Δ − Δ_start`, in client-id order: what it has from its cluster is left out."""
    store, starts = Home.current().server(), dict[str, dict[str, Layer]]()
    out: list[Adapter] = []
    for client in sorted(handed):
        mine = handed[client]
        if mine.start.sha256 not in starts:
            starts[mine.start.sha256] = from_bytes(store.get(mine.start))
        start = starts[mine.start.sha256]
        out.append({name: _difference(layer, start[name]) for name, layer in mine.load(store).items()})
    return out


def _difference(after: Layer, before: Layer) -> Layer:
    return concatenated([after, replace(before, scale=-before.scale)], [1.0, 1.0])
