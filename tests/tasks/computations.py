"""Computations for worker processes, which can only run what they can import."""

import os
import signal
import time

from fedcore.errors import TableError
from tasks._stage import ClientJob, Made


class ProbeJob(ClientJob):
    """A client job that does nothing useful."""

    stage = "probe"

    wish: str = "work"


def double(x: int) -> int:
    return 2 * x


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def threads() -> int:
    import torch

    return torch.get_num_threads()


def probe(job: ProbeJob) -> Made:
    """Does what its wish says."""
    from data.clients import clients_folder

    if job.wish == "hang":
        time.sleep(60)
    if job.wish == "die":
        die()
    if job.wish == "blurt":
        raise ValueError("my prompt is quixotrope")
    if job.wish == "refuse":
        raise TableError("no column 'image'", at=clients_folder() / "my wedding.parquet")
    return Made(record={"wish": job.wish})
