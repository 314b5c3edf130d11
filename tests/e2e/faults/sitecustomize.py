"""Python imports this at start when the folder is on its path.

With FEDCORE_MISBEHAVE, see misbehaving.py. With FEDCORE_RESUMED=<file>, each training notes there after how many steps
it goes on. With FEDCORE_FAULT, processes are killed once, at the place that it names:

`FEDCORE_FAULT=<stage>:<place>:<who>:<mark>`; the file `mark` is created by the one process that strikes. Places: `before` the stage
computes, in the `middle` of it (training: after a checkpoint), `blobs` stored but no manifest yet, `manifest` written. For the stage
`publish`: before anything, in the middle of the adapters, all of it in MLflow but not noted, noted. Who: the `flow`, or `all` of
computing process, flow, and the worker of Prefect's that started the flow.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

FAULT = os.environ.get("FEDCORE_FAULT")
MISBEHAVE = os.environ.get("FEDCORE_MISBEHAVE")
RESUMED = os.environ.get("FEDCORE_RESUMED")


def ancestors(pid: int) -> list[int]:
    """The processes above one, the nearest first."""
    above: list[int] = []
    while (pid := int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])) > 1:
        above.append(pid)
    return above


def strike(who: str, mark: str) -> None:
    """Kill, if no process has struck yet."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    computing = multiprocessing.parent_process() is not None
    flow = os.getppid() if computing else os.getpid()
    if who == "all":
        above = ancestors(flow)
        workers = [i for i, pid in enumerate(above) if b"worker\0start" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for pid in reversed(above[: workers[0] + 1] if workers else []):  # from the worker down: nobody sees a child end
            os.kill(pid, signal.SIGKILL)
    os.kill(flow, signal.SIGKILL)
    if who == "all":
        os.kill(os.getpid(), signal.SIGKILL)


def arm(stage: str, place: str, who: str, mark: str) -> None:
    """Replace the functions at that place by ones that strike first or last."""
    from data import checkpoints, clients, manifests, store

    at_work: list[str] = []

    def wrapped(function: Callable[..., Any], *, before: bool = False, after: bool = False, named: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            computing = multiprocessing.parent_process() is not None  # the flow itself looks at manifests as well, and passes
            if named:
                at_work[:] = [arguments[1] if isinstance(arguments[1], str) else arguments[1].stage]
            if before and computing and at_work == [stage]:
                strike(who, mark)
            out = function(*arguments, **options)
            if after and computing and at_work == [stage]:
                strike(who, mark)
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


def arm_publishing(place: str, who: str, mark: str) -> None:
    """The same for what the flow itself does: replace the functions that publishing calls."""
    from data import records
    from data.formats import peft
    from tasks import _tracking

    def wrapped(function: Callable[..., Any], *, times: int = 1, after: bool = False) -> Callable[..., Any]:
        calls: list[None] = []

        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(None)
            if not after and len(calls) == times:
                strike(who, mark)
            out = function(*arguments, **options)
            if after:
                strike(who, mark)
            return out

        return call

    if place == "before":
        _tracking.Tracking.run = wrapped(_tracking.Tracking.run)  # type: ignore[method-assign]
    elif place == "middle":
        peft.write_peft = wrapped(peft.write_peft, times=3)
    else:
        records.mark_published = wrapped(records.mark_published, after=place == "manifest")


def note_resumed(file: Path) -> None:
    """Write down how many steps each checkpoint holds that a training goes on from."""
    from data.checkpoints import Checkpoint

    read = Checkpoint.read

    def noted(self: Checkpoint) -> Any:
        state = read(self)
        with file.open("a") as out:
            out.write(f"{0 if state is None else len(state['losses'])}\n")
        return state

    Checkpoint.read = noted  # type: ignore[method-assign]


if FAULT:
    of, *where = FAULT.split(":", 3)
    arm_publishing(*where) if of == "publish" else arm(of, *where)
if RESUMED:
    note_resumed(Path(RESUMED))
if MISBEHAVE:
    import misbehaving

    misbehaving.arm(dict(pair.split("=") for pair in MISBEHAVE.split(",")))
