"""Sends clients' stages to Prefect's work pools, in shards, and collects the outcomes from the store as they arrive."""

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelled, Cancelling

from data.boxes import take
from data.store import Store
from fedcore.errors import RoundFailed
from tasks.answers import MOST_TEXT, read
from tasks.remote import REMOTE

log = logging.getLogger("flows.pools")
POOL = "gpu"
SHARDS, SITES = "train-shard/train-shard", "train-shard/site"
ATTEMPTS = 3
SLACK = 60.0  # seconds beyond a client's own limit that a worker may take to start, and to tell that a client hangs
POLL = 0.5  # seconds between two looks into a box
LOOK = 4  # a look at the flow run every so many polls


@dataclass
class Shard:
    """Jobs that travel together, by owner; `site` is None for the pool. `waiting` shrinks as outcomes arrive."""

    site: str | None
    waiting: dict[str, Any]
    attempt: int = 0
    box: str = ""
    run: UUID | None = None
    news: float = field(default_factory=time.monotonic)


def tag(run: str) -> str:
    """What marks the flow runs that compute for a run."""
    return f"fedcore:{run}"


def balanced(costs: Mapping[str, float], shards: int) -> list[list[str]]:
    """Clients in at most `shards` groups of nearly equal cost: the dearest first, always into the cheapest group."""
    groups: list[tuple[float, list[str]]] = [(0.0, []) for _ in range(max(1, min(shards, len(costs))))]
    for client in sorted(costs, key=lambda c: (-costs[c], c)):
        i = min(range(len(groups)), key=lambda g: (groups[g][0], g))
        groups[i] = (groups[i][0] + costs[client], [*groups[i][1], client])
    return [sorted(clients) for _, clients in groups]


def online(client: SyncPrefectClient, pool: str) -> int:
    """How many workers serve a pool.

    Raises:
        RoundFailed: none does.
    """
    there = pool in {made.name for made in client.read_work_pools()}
    found = sum(w.status == WorkerStatus.ONLINE for w in client.read_workers_for_work_pool(pool)) if there else 0
    if not found:
        raise RoundFailed(f"no worker serves the pool '{pool}'; start one with `fedcore up` or `prefect worker start --pool {pool}`")
    return found


def sharded(
    stage: str,
    jobs: Mapping[str, Any],
    *,
    run: str,
    label: str,
    timeout: float,
    sites: Mapping[str, Sequence[str]],
    costs: Mapping[str, float],
    store: Store,
) -> Iterator[Any]:
    """The outcome of every job (by its owner, a client mostly), as they arrive; the jobs are on their way when this returns.

    Without `sites`, jobs go to the workers of the pool, balanced by `costs`; a shard whose worker dies is sent again with the
    clients that are not done. With `sites`, each client's job goes to its own site only; a site that says nothing for
    `timeout` seconds is left out.
    """
    with get_client(sync_client=True) as api:
        if sites:
            groups = [(site, [c for c in clients if c in jobs]) for site, clients in sites.items()]
        else:
            groups = [(None, clients) for clients in balanced({c: costs.get(c, 1.0) for c in jobs}, online(api, POOL))]
    shards = [Shard(site, {c: jobs[c] for c in clients}) for site, clients in groups if clients]
    for shard in shards:
        _send(shard, stage, run, label, timeout)
    return _collected(shards, stage, run, label, timeout, store)


def _collected(shards: list[Shard], stage: str, run: str, label: str, timeout: float, store: Store) -> Iterator[Any]:
    """Outcomes as they arrive, until every shard is done or given up."""
    with get_client(sync_client=True) as api:
        turn = 0
        while shards:
            turn += 1
            for shard in list(shards):
                over = _over(api, shard, timeout) if turn % LOOK == 0 else None
                yield from _taken(shard, stage, store)  # after the look: what was left before the end is not missed
                if shard.waiting and over:
                    again = over == "ended" or shard.site is None  # a silent site stays silent
                    if again and shard.attempt < ATTEMPTS:
                        log.warning("%s %s: sending %d jobs again", stage, label, len(shard.waiting))
                        _send(shard, stage, run, label, timeout)
                    else:
                        yield from _given_up(shard, stage, over, timeout)
                if not shard.waiting:
                    shards.remove(shard)
            time.sleep(POLL)


def _send(shard: Shard, stage: str, run: str, label: str, timeout: float) -> None:
    """Create the shard's flow run; the same attempt of the same execution of a round never makes two.

    Raises:
        RoundFailed: the server was not prepared.
    """
    shard.attempt += 1
    identity = [str(flow_run.id), str(flow_run.run_count), stage, str(shard.attempt), *sorted(shard.waiting)]
    shard.box = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32]
    shard.news = time.monotonic()
    names = sorted(shard.waiting)
    who = names[0] if len(names) == 1 else f"{names[0]}…{names[-1]}"
    deployment = SITES if shard.site else SHARDS
    parameters = {
        "run": run,
        "stage": stage,
        "label": f"{who} {label}",
        "jobs": [shard.waiting[c].model_dump(mode="json") for c in names],
        "box": shard.box,
        "timeout": timeout,
    }
    try:
        made = run_deployment(
            deployment, parameters=parameters, timeout=0, tags=[tag(run)], idempotency_key=shard.box, work_queue_name=shard.site
        )
    except ObjectNotFound:
        raise RoundFailed(
            f"{stage} {label}: the Prefect server has no deployment '{deployment}'; run `fedcore deploy`, or wait for `fedcore up`"
        ) from None
    shard.run = made.id


def _taken(shard: Shard, stage: str, store: Store) -> Iterator[Any]:
    """The outcomes that have arrived since the last look."""
    for client, text in take(store, shard.box, MOST_TEXT + 1).items():
        if (job := shard.waiting.pop(client, None)) is not None:
            shard.news = time.monotonic()
            yield read(stage, client, job, text)


End = Literal["ended", "silent"]


def _over(api: SyncPrefectClient, shard: Shard, timeout: float) -> End | None:
    """Has the shard's flow run ended, or been silent too long? In the second case it is cancelled, lest it begin or go on later."""
    if shard.run is None:
        return None
    state = api.read_flow_run(shard.run).state
    if state is not None and state.is_final():
        return "ended"
    if shard.site is None and state is not None and state.is_scheduled():
        shard.news = time.monotonic()  # it waits for a worker that is busy with something else
    if time.monotonic() - shard.news < timeout + SLACK:
        return None
    end = Cancelling if state is not None and state.is_running() else Cancelled  # a worker stops what is being cancelled
    api.set_flow_run_state(shard.run, end(message=f"no news for {timeout + SLACK:.0f} s"), force=True)
    return "silent"


def _given_up(shard: Shard, stage: str, over: End, timeout: float) -> Iterator[Any]:
    """A named failure for every client that did not come through."""
    where = f"site '{shard.site}'" if shard.site else f"the pool '{POOL}'"
    silent = f"{where} did not answer within {timeout:.0f} s"
    reason = silent if over == "silent" else f"{where} ended its flow run {ATTEMPTS} times without it"
    for client in sorted(shard.waiting):
        yield REMOTE[stage].outcome(client=client, status="failed", reason=reason)
    shard.waiting.clear()
