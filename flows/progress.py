"""What a running flow tells whoever watches: stages begun, steps done. The command line draws it; nobody else need listen."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Watcher(Protocol):
    """Receives progress; must not fail."""

    def stage(self, title: str, total: int) -> None:
        """A stage of `total` steps begins."""

    def step(self, text: str) -> None:
        """One step of it is done."""


class _Nobody:
    def stage(self, title: str, total: int) -> None:
        """Ignored."""

    def step(self, text: str) -> None:
        """Ignored."""


NOBODY: Watcher = _Nobody()
_watcher: ContextVar[Watcher] = ContextVar("watcher", default=NOBODY)


def watcher() -> Watcher:
    """Whoever watches this flow."""
    return _watcher.get()


@contextmanager
def watched_by(someone: Watcher) -> Iterator[None]:
    """Flows called inside the block report to `someone`."""
    token = _watcher.set(someone)
    try:
        yield
    finally:
        _watcher.reset(token)
