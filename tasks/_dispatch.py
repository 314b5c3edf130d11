"""Where computations run: long-lived worker processes of one thread each, which load the base once and can be killed when they hang."""

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any

from pebble import ProcessExpired, ProcessPool

from data.home import CLIENTS, HOME, STORE
from fedcore.base import Device, Precision
from fedcore.config import Federation
from fedcore.errors import FedcoreError

log = logging.getLogger("tasks.dispatch")
_lock = threading.Lock()
_pool: ProcessPool | None = None
_places: tuple[str | None, ...] = ()
"""Whose state, store and client files the pool's processes were started for."""

MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**30)}
"""glibc returns and refetches large blocks all the time otherwise."""


class WorkerFailed(FedcoreError):
    """The computation did not come back: too slow, or its process died."""


def workers() -> int:
    """One process per core; where there are graphics processors, one for each of them."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin() -> None:
    """One thread per worker: results depend on the number of threads, and two cores serve two processes better than threads."""
    import torch

    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING)


def _started() -> ProcessPool:
    """The pool, begun on first use, and anew where another side is served by now: processes keep the environment they began with."""
    global _pool, _places  # noqa: PLW0603 the one pool of this process
    with _lock:
        places = tuple(os.environ.get(name) for name in (HOME, STORE, CLIENTS))
        if places != _places:
            _end()
        if _pool is None:
            _places = places
            os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # scikit-learn's sums depend on it, too
            for name, value in MALLOC.items():
                os.environ.setdefault(name, value)
            _pool = ProcessPool(max_workers=workers(), initializer=_begin, context=multiprocessing.get_context("spawn"))
        return _pool


def scheduled(function: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> Callable[[], Any]:
    """Have `function(*arguments)` computed in a worker process; what is returned waits for the result.

    Raises (when waiting):
        WorkerFailed: it took longer than `timeout` seconds (its process is replaced), or its process died.
    """
    future = _started().schedule(function, args=arguments, timeout=timeout)

    def result() -> Any:
        try:
            return future.result()
        except FutureTimeout:
            raise WorkerFailed(f"did not finish within {timeout:.0f} s") from None
        except ProcessExpired as error:
            raise WorkerFailed(f"its worker process died (exit code {error.exitcode})") from None

    return result


def _load(base: str, precision: Precision, device: Device) -> None:
    """Have a base in this process."""
    from data.base.load import load_base

    load_base(base, precision, device)


def warm(federation: Federation) -> list[Callable[[], Any]]:
    """Let the worker processes start and load a federation's base while this one does other things; what is returned waits for them."""
    return [scheduled(_load, federation.base, federation.precision, federation.device) for _ in range(workers())]


def in_worker(function: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> Any:
    """`function(*arguments)` in a worker process.

    Raises:
        WorkerFailed: as `scheduled`.
    """
    return scheduled(function, *arguments, timeout=timeout)()


def close() -> None:
    """End the worker processes."""
    with _lock:
        _end()


def _end() -> None:
    global _pool  # noqa: PLW0603
    if _pool is not None:
        _pool.close()
        with suppress(TimeoutError):  # something is still computed that nobody waits for any more
            _pool.join(timeout=10)
        _pool.stop()
        _pool.join()
        _pool = None
