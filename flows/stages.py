"""How a round submits its stages: client stages mapped over groups of clients, server stages one by one, all noted in its journal."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from prefect.futures import PrefectFuture, as_completed

from data.journal import Journal
from data.manifests import Manifest
from data.store import Store
from fedcore.config import Federation
from fedcore.errors import RoundFailed
from flows.progress import watcher
from tasks._client import Outcome
from tasks._dispatch import WorkerFailed, workers
from tasks._stage import ClientJob, Job, finished, refresh
from tasks.answers import refused
from tasks.enrol import EnrolJob, Enrolment, enrol
from tasks.gallery import GalleryJob, paint_gallery

J = TypeVar("J", bound=ClientJob)
TASKS_PER_WORKER = 8
"""So few Prefect tasks that their cost does not count, so many that workers stay evenly busy; beyond, clients share a task."""


def grouped(jobs: Sequence[ClientJob]) -> list[Sequence[ClientJob]]:
    """One client a task while there are few, several small ones beyond."""
    size = max(1, math.ceil(len(jobs) / (workers() * TASKS_PER_WORKER)))
    return [jobs[i : i + size] for i in range(0, len(jobs), size)]


@dataclass(frozen=True)
class Painting:
    """A gallery that is being painted elsewhere."""

    outcomes: Iterator[Outcome]

    def result(self) -> Manifest:
        """Wait for it.

        Raises:
            RoundFailed: it did not come back.
        """
        (outcome,) = self.outcomes
        if outcome.manifest is None:
            raise RoundFailed(f"gallery: {outcome.reason}")
        return outcome.manifest


@dataclass(frozen=True)
class Stages:
    """The stages of round `number` of the run that `federation` configures."""

    federation: Federation
    number: int
    journal: Journal
    store: Store

    @property
    def label(self) -> str:
        """What tasks of this round are called by in Prefect's pages."""
        return f"r{self.number}"

    def enrol(self, clients: Sequence[str]) -> dict[str, Enrolment]:
        """Ask every client who it is."""
        jobs, f = {c: EnrolJob(client=c) for c in clients}, self.federation
        watcher().stage("enrol", len(jobs))
        made: dict[str, Enrolment] = {}
        for enrolment in self._elsewhere("enrol", jobs, {}) if f.away else enrol(list(jobs.values()), self.label, f.client_timeout):
            made[enrolment.client] = enrolment
            watcher().step(told(enrolment))
        return {c: made[c] for c in clients}

    def clients(
        self,
        stage: Any,
        jobs: Sequence[J],
        costs: Mapping[str, float] | None = None,
        *,
        problem: Callable[[Manifest, J], str | None] = lambda _manifest, _job: None,
    ) -> dict[str, Outcome]:
        """A client stage over its jobs; outcomes by client, in the jobs' order.

        `costs` (by client, any unit) balance the shards; an answer in which `problem` finds one is refused.
        """
        watcher().stage(stage.name, len(jobs))
        kind = jobs[0].stage
        self.journal.note(kind, {job.client: job.key() for job in jobs})
        done = {job.client: manifest.brief() for job in jobs if (manifest := finished(job)) is not None}
        waiting = {job.client: job for job in jobs if job.client not in done}
        known = (Outcome(client=client, status="ok", manifest=manifest) for client, manifest in done.items())
        made = self._elsewhere(kind, waiting, costs or {}) if self.federation.away else self._mapped(stage, list(waiting.values()))
        outcomes: dict[str, Outcome] = {}
        asked = {job.client: job for job in jobs}
        for answer in chain(known, made):
            outcome, job = answer, asked[answer.client]
            if answer.manifest:
                outcome = refused(answer, self._lost(job) or problem(answer.manifest, job))
            outcomes[outcome.client] = outcome
            watcher().step(told(outcome))
        self.journal.strike(kind, [client for client, outcome in outcomes.items() if outcome.status != "ok"])
        return {job.client: outcomes[job.client] for job in jobs}

    def _lost(self, job: ClientJob) -> str | None:
        """A result that nobody can read again is none."""
        return "its result is not in the store" if self.federation.away and finished(job) is None else None

    def _mapped(self, stage: Any, jobs: Sequence[ClientJob]) -> Iterator[Outcome]:
        """As tasks of this flow, in groups; what Prefect's cache has is ignored: it may be the failure of another day."""
        futures: list[PrefectFuture[list[Outcome]]] = []
        for group in grouped(jobs):
            who = group[0].client if len(group) == 1 else f"{group[0].client}…{group[-1].client}"
            mapped = stage.with_options(refresh_cache=True)
            futures.append(mapped.submit(list(group), f"{who} {self.label}", self.federation.client_timeout))
        for future in as_completed(futures):
            yield from future.result()

    def _elsewhere(self, kind: str, jobs: Mapping[str, Any], costs: Mapping[str, float]) -> Iterator[Any]:
        """In a work pool or at the clients' sites."""
        from flows.pools import sharded

        f = self.federation
        if jobs:
            yield from sharded(
                kind, jobs, run=f.name, label=self.label, timeout=f.client_timeout, sites=f.sites, costs=costs, store=self.store
            )

    def paint(self, job: GalleryJob) -> "PrefectFuture[Manifest] | Painting":
        """Have the gallery painted: on the pool where clients compute there, else here."""
        f = self.federation
        if f.dispatch == "inline" or finished(job) is not None:
            return self.submit(paint_gallery, job)
        from flows.pools import sharded

        self.journal.note(job.stage, {"": job.key()})
        one = {job.stage: job}
        return Painting(
            sharded(job.stage, one, run=f.name, label=self.label, timeout=f.client_timeout, sites={}, costs={}, store=self.store)
        )

    def submit(self, stage: Any, job: Job, owner: str = "") -> PrefectFuture[Manifest]:
        """Submit one server stage; `owner` tells several of one stage apart."""
        self.journal.note(job.stage, {owner: job.key()})
        label = f"{owner} {self.label}".strip()
        future: PrefectFuture[Manifest] = stage.with_options(refresh_cache=refresh([job])).submit(job, label)
        return future

    def run(self, stage: Any, job: Job, owner: str = "") -> Manifest:
        """One server stage from submission to its manifest.

        Raises:
            RoundFailed: its worker process died.
        """
        watcher().stage(stage.name, 1)
        manifest = self.done(self.submit(stage, job, owner), f"{stage.name} {owner}".strip())
        watcher().step("done")
        return manifest

    def done(self, future: PrefectFuture[Manifest], what: str) -> Manifest:
        """Wait for a server stage.

        Raises:
            RoundFailed: its worker process died.
        """
        try:
            return future.result()
        except WorkerFailed as error:
            run = self.federation.name
            raise RoundFailed(f"round {self.number}, {what}: {error}; is memory short? `fedcore resume {run}` goes on from here") from None

    def need(self, arrived: int, total: int, what: str) -> None:
        """Insist on the quorum.

        Raises:
            RoundFailed: fewer of the `total` clients that were asked came through than the federation's `quorum`.
        """
        needed = max(1, math.ceil(self.federation.quorum * total - 1e-9))
        if arrived < needed:
            raise RoundFailed(
                f"round {self.number}, {what}: {arrived} of {total} clients came through, the quorum is {needed}; the reasons stand above"
            )


def told(outcome: Outcome | Enrolment) -> str:
    """A client's outcome in a few words."""
    return outcome.client if outcome.status == "ok" else f"{outcome.client} {outcome.status}: {outcome.reason}"
