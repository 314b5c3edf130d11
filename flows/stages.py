"""How a flow submits stages: client stages mapped over groups of clients, server stages one by one, all by their keys."""

import math
from collections.abc import Sequence
from typing import Any

from prefect.futures import PrefectFuture, as_completed

from data.manifests import Manifest
from fedcore.errors import RoundFailed
from flows.progress import watcher
from tasks._client import Outcome
from tasks._dispatch import workers
from tasks._stage import ClientJob, Job, refresh

TASKS_PER_WORKER = 8
"""So few Prefect tasks that their cost does not count, so many that workers stay evenly busy; beyond, clients share a task."""


def grouped(jobs: Sequence[ClientJob]) -> list[Sequence[ClientJob]]:
    """One client a task while there are few, several small ones beyond."""
    size = max(1, math.ceil(len(jobs) / (workers() * TASKS_PER_WORKER)))
    return [jobs[i : i + size] for i in range(0, len(jobs), size)]


def run_clients(stage: Any, jobs: Sequence[ClientJob], label: str, timeout: float) -> dict[str, Outcome]:
    """Map a client stage over its jobs; outcomes by client, in the jobs' order."""
    watcher().stage(stage.name, len(jobs))
    futures: list[PrefectFuture[list[Outcome]]] = []
    for group in grouped(jobs):
        clients = group[0].client if len(group) == 1 else f"{group[0].client}…{group[-1].client}"
        futures.append(stage.with_options(refresh_cache=refresh(group)).submit(list(group), f"{clients} {label}", timeout))
    outcomes: dict[str, Outcome] = {}
    for future in as_completed(futures):
        for outcome in future.result():
            outcomes[outcome.client] = outcome
            watcher().step(outcome.client if outcome.status == "ok" else f"{outcome.client} {outcome.status}: {outcome.reason}")
    return {job.client: outcomes[job.client] for job in jobs}


def submit(stage: Any, job: Job, label: str) -> PrefectFuture[Manifest]:
    """Submit one server stage."""
    future: PrefectFuture[Manifest] = stage.with_options(refresh_cache=refresh([job])).submit(job, label)
    return future


def run(stage: Any, job: Job, label: str) -> Manifest:
    """One server stage from submission to its manifest."""
    watcher().stage(stage.name, 1)
    manifest = submit(stage, job, label).result()
    watcher().step("done")
    return manifest


def need(quorum: float, total: int, arrived: int, what: str) -> None:
    """Insist on the quorum.

    Raises:
        RoundFailed: fewer clients came through than the share `quorum` of `total`.
    """
    needed = max(1, math.ceil(quorum * total - 1e-9))
    if arrived < needed:
        raise RoundFailed(f"{what}: {arrived} of {total} clients came through, the quorum is {needed}; the reasons stand above")
