"""Work on a run as the only process: for flows that compute its rounds, one of which may run inside another."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from data.home import Home
from flows.recovery import bury_the_dead
from tasks._dispatch import close

_at_work_on: ContextVar[str | None] = ContextVar("at_work_on", default=None)


@contextmanager
def alone(home: Home, name: str) -> Iterator[None]:
    """The run is locked, and what dead processes left of it in Prefect is marked; worker processes end with the block.

    Inside another block of the same run it changes nothing.

    Raises:
        BusyError: another process is working on it.
    """
    if _at_work_on.get() == name:
        yield
        return
    with home.lock(name):
        token = _at_work_on.set(name)
        try:
            bury_the_dead(name)
            yield
        finally:
            _at_work_on.reset(token)
            close()
