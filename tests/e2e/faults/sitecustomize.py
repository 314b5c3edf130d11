"""Python imports this at start when the folder is on its path.

With FEDCORE_MISBEHAVE, see misbehaving.py. With FEDCORE_FAULT, a worker and its flow are killed once, at the place that it names:

`FEDCORE_FAULT=<stage>:<place>:<mark>`; the file `mark` is created by the one process that strikes. Places: `before` the stage
computes, in the `middle` of it (training: after a checkpoint), `blobs` stored but no manifest yet, `manifest` written.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

FAULT = os.environ.get("FEDCORE_FAULT")
MISBEHAVE = os.environ.get("FEDCORE_MISBEHAVE")


def strike(mark: str) -> None:
    """Kill the flow and this worker of it, if no process has struck yet. The flow itself looks at manifests as well, and passes."""
    if multiprocessing.parent_process() is None:
        return
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def arm(stage: str, place: str, mark: str) -> None:
    """Replace the functions at that place by ones that strike first or last."""
    from data import checkpoints, clients, manifests, store

    at_work: list[str] = []

    def wrapped(function: Callable[..., Any], *, before: bool = False, after: bool = False, named: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if named:
                at_work[:] = [arguments[1] if isinstance(arguments[1], str) else arguments[1].stage]
            if before and at_work == [stage]:
                strike(mark)
            out = function(*arguments, **options)
            if after and at_work == [stage]:
                strike(mark)
            return out

        return call

    manifests.read = wrapped(manifests.read, named=True, after=place == "before")
    manifests.write = wrapped(manifests.write, named=True, before=place == "blobs", after=place == "manifest")
    if place == "middle" and stage == "train":
        checkpoints.Checkpoint.write = wrapped(checkpoints.Checkpoint.write, after=True)  # type: ignore[method-assign]
    elif place == "middle":
        clients.load_client = wrapped(clients.load_client, before=True)
        for method in ("get", "put"):
            setattr(store.Store, method, wrapped(getattr(store.Store, method), before=True))


if FAULT:
    arm(*FAULT.split(":", 2))
if MISBEHAVE:
    import misbehaving

    misbehaving.arm(dict(pair.split("=") for pair in MISBEHAVE.split(",")))
