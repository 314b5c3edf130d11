"""A client's accepted adapter as the server's stages read it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import overload

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


class Learnt(Sequence[Adapter]):
    """What each client's training changed, `Δ − Δ_start`, in client-id order: what it has from its cluster is left out.

    Read anew each time it is asked for, so that many clients' are never in memory together.
    """

    def __init__(self, handed: Mapping[str, Handed]) -> None:
        """Of these clients."""
        self._handed = [handed[client] for client in sorted(handed)]
        self._store = Home.current().server()
        self._starts: dict[str, dict[str, Layer]] = {}

    def __len__(self) -> int:
        return len(self._handed)

    @overload
    def __getitem__(self, index: int) -> Adapter: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Adapter]: ...
    def __getitem__(self, index: int | slice) -> Adapter | Sequence[Adapter]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        mine = self._handed[index]
        if mine.start.sha256 not in self._starts:
            self._starts[mine.start.sha256] = from_bytes(self._store.get(mine.start))
        start = self._starts[mine.start.sha256]
        return {name: _difference(layer, start[name]) for name, layer in mine.load(self._store).items()}


def _difference(after: Layer, before: Layer) -> Layer:
    return concatenated([after, replace(before, scale=-before.scale)], [1.0, 1.0])
