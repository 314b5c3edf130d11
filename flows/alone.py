"""Work on a run as the only process: for flows that compute its rounds, one of which may run inside another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from data.home import STORE, Home
from fedcore.errors import BusyError
from flows.recovery import bury_the_dead
from tasks._dispatch import close

LEASE = 60
"""Seconds after which the place of a coordinator that died on another machine is free again."""
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
    with home.lock(name), _alone_among_machines(name):
        token = _at_work_on.set(name)
        try:
            bury_the_dead(home, name)
            yield
        finally:
            _at_work_on.reset(token)
            close()


@contextmanager
def _alone_among_machines(name: str) -> Iterator[None]:
    """Where a store is shared, coordinators on several machines exclude each other through Prefect's server."""
    if not os.environ.get(STORE):
        yield
        return
    place = f"fedcore:{name}"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(place, 1)
    entered = False
    try:
        with concurrency(place, timeout_seconds=LEASE + 15, lease_duration=LEASE, strict=True):
            entered = True
            yield
    except TimeoutError:
        if entered:
            raise
        raise BusyError(f"run '{name}' is being worked on by a process on another machine; wait for it, or stop it first") from None
