"""What is left of a run after a crash, and what a rerun must do again: read from journals, records and manifests."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run
from prefect.states import Cancelled, Cancelling, Crashed

from data import manifests
from data.boxes import discard
from data.home import Home
from data.journal import Keys, lacking, read_journal
from data.records import bound, mark_unpublished, read_round
from fedcore.clustering import BY_LOSS
from fedcore.config import Federation
from fedcore.errors import InputError
from flows.pools import tag

STAGES = (
    "encode", "assign", "start", "train", "cluster", "aggregate", "interact", "divide", "baseline", "gallery", "evaluate", "publish",
)  # fmt: skip
"""In the order in which a round runs them."""
Edges = dict[str, tuple[str, ...]]
THEN: Edges = {
    "encode": ("assign", "cluster"),
    "assign": ("start",),
    "start": ("train",),
    "train": ("aggregate", "evaluate"),
    "cluster": ("aggregate", "interact"),
    "aggregate": ("interact",),
    "interact": ("divide", "gallery", "evaluate"),
    "divide": ("evaluate",),
}
"""Which stages of the same round read what a stage made."""
NEXT: Edges = {"cluster": ("assign", "cluster"), "interact": ("start",)}
"""Which stages of the next round do."""


def edges(f: Federation) -> tuple[Edges, Edges]:
    """Both, with what the federation's methods add."""
    then, later = dict(THEN), dict(NEXT)
    if f.clustering.on != "requirements":
        then["train"] = (*THEN["train"], "cluster")
    if f.clustering.method == BY_LOSS:
        later["evaluate"] = ("cluster", "start")
    if f.aggregation.server.method != "none":
        later["aggregate"] = ("aggregate",)
    if f.personal.trains or f.aggregation.rule.shares is not None:
        later["train"] = ("train",)
    return then, later


@dataclass(frozen=True, order=True)
class Step:
    """One job of a round: its place in the order of stages, its owner (see `data.journal.Keys`), its key."""

    round: int
    order: int
    owner: str
    key: str

    @property
    def stage(self) -> str:
        """Its stage."""
        return STAGES[self.order]


def journals(home: Home, name: str) -> dict[int, Keys]:
    """The journal of every round that began."""
    found = ((n, read_journal(home.server(), name, n)) for n in range(1, bound(home.server(), name).rounds + 1))
    return {n: keys for n, keys in found if keys}


def _publications(home: Home, name: str, by_round: dict[int, Keys]) -> dict[int, Keys]:
    """The journals with the publication of every round that is finished; it has no manifest, and its key is the run's name."""
    return {n: keys | ({"publish": {"": name}} if read_round(home.server(), name, n) else {}) for n, keys in by_round.items()}


def steps(number: int, keys: Keys) -> list[Step]:
    """A journal as steps."""
    return [Step(number, STAGES.index(stage), owner, key) for stage, by_owner in keys.items() for owner, key in by_owner.items()]


def left(home: Home, name: str) -> list[Step]:
    """The jobs that a round noted and that are not done, or whose results are gone or damaged.

    Raises:
        ConfigError: there is no such run.
    """
    return sorted(step for n, keys in journals(home, name).items() for step in steps(n, lacking(home.server(), keys)))


def unfinished_rounds(home: Home, name: str) -> list[int]:
    """The rounds without a record."""
    return [n for n in range(1, bound(home.server(), name).rounds + 1) if read_round(home.server(), name, n) is None]


def affected(home: Home, name: str, stage: str, number: int | None, client: str | None) -> list[Step]:
    """A stage of a round (the last one begun), of all owners or of one client, and everything computed from it.

    Raises:
        ConfigError: there is no such run.
        InputError: there is no such stage, round or client.
    """
    by_round = _publications(home, name, journals(home, name))
    if not by_round:
        raise InputError(f"run '{name}' has not begun; `fedcore resume {name}` runs it")
    number = max(by_round) if number is None else number
    if number not in by_round:
        raise InputError(f"run '{name}' has no round {number}; its rounds are 1 to {max(by_round)}")
    if stage not in by_round[number]:
        raise InputError(
            f"round {number} of '{name}' has no stage '{stage}'; it has {', '.join(s for s in STAGES if s in by_round[number])}"
        )
    if client is not None and client not in by_round[number][stage]:
        raise InputError(f"stage '{stage}' of round {number} has no client '{client}'; it has {', '.join(sorted(by_round[number][stage]))}")
    steps_of: dict[tuple[int, str], dict[str, Step]] = {}
    for step in (s for n, keys in by_round.items() for s in steps(n, keys)):
        steps_of.setdefault((step.round, step.stage), {})[step.owner] = step
    begun = [s for s in steps_of[number, stage].values() if client in (None, s.owner)]
    clusters = {n: _clusters(home, keys) for n, keys in by_round.items()}
    found, waiting, by = set(begun), begun, edges(bound(home.server(), name))
    while waiting:
        waiting = sorted({s for step in waiting for s in _readers(step, steps_of, clusters[step.round], by)} - found)
        found.update(waiting)
    return sorted(found)


def _readers(
    step: Step, steps_of: dict[tuple[int, str], dict[str, Step]], cluster_of: dict[str, str], by: tuple[Edges, Edges]
) -> list[Step]:
    """The steps that read what `step` made.

    A client's adapter is read by its cluster and by its own later stages only; a cluster's aggregation by the exchange, and
    by the same cluster's next one, which may go on with its moments.
    """
    then, later = by
    places = [(step.round, s) for s in then.get(step.stage, ())] + [(step.round + 1, s) for s in later.get(step.stage, ())]
    out: list[Step] = []
    for place in places:
        there = steps_of.get(place, {})
        if step.stage == "train" or place[1] == step.stage == "aggregate":
            out += [there[owner] for owner in ("", step.owner, cluster_of.get(step.owner, "")) if owner in there]
        else:
            out += there.values()
    return out


def _clusters(home: Home, keys: Keys) -> dict[str, str]:
    """For each client of a round the owner of the aggregation that its adapter entered."""
    found = [manifests.read(home.server(), "cluster", key) for key in keys.get("cluster", {}).values()]
    return {c: f"cluster {i}" for manifest in found if manifest for i, clients in manifest.record["members"].items() for c in clients}


def forget(home: Home, chosen: list[Step]) -> None:
    """Let these steps count as not done; what cannot be done again comes back (`flows.round`)."""
    for step in chosen:
        if step.stage == "publish":
            mark_unpublished(home.server(), step.key, step.round)
        else:
            manifests.set_aside(home.server(), step.stage, step.key)


def not_since(home: Home, chosen: list[Step], when: float) -> list[Step]:
    """Those of these steps that count with a result from before `when`."""
    found = {step: manifests.read(home.server(), step.stage, step.key) for step in chosen if step.stage != "publish"}
    return [step for step, manifest in found.items() if manifest is not None and manifest.finished < when]


def told(chosen: list[Step]) -> Iterator[str]:
    """Steps in words, a line a round and stage."""
    for (number, stage), group in groupby(chosen, key=lambda s: (s.round, s.stage)):
        owners = [s.owner for s in group if s.owner]
        shown = ", ".join(owners) if len(owners) <= 8 else f"{', '.join(owners[:3])} … {owners[-1]} ({len(owners)})"
        yield f"round {number}: {stage} {shown}".rstrip()


BEGUN = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
COORDINATORS = FlowFilter(name=FlowFilterName(any_=["federated-training", "federated-round"]))


def _in_state(*kinds: StateType) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(kinds)))


def bury_the_dead(home: Home, name: str) -> None:
    """Call it under the run's lock: whatever of the run Prefect takes to be alive belonged to a process that is gone.

    Prefect leaves the runs of a killed process at `Running` for ever: the run's own are marked as crashed. Shards that it sent
    out are called back, since nobody waits for their answers any more; what they finished is in the store.
    """
    ours = {name} | {f"{name} round {n}" for n in range(1, 10_000)}
    sent = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag(name)]), state=_in_state(*BEGUN, StateType.SCHEDULED))
    with get_client(sync_client=True) as client:
        for each in client.read_flow_runs(flow_filter=COORDINATORS, flow_run_filter=FlowRunFilter(state=_in_state(*BEGUN))):
            if each.name in ours and str(each.id) != str(flow_run.id):
                client.set_flow_run_state(each.id, Crashed(message="its process is gone"), force=True)
        for each in client.read_flow_runs(flow_run_filter=sent):
            running = each.state is not None and each.state.is_running()
            end = Cancelling if running else Cancelled  # a worker stops what is being cancelled
            client.set_flow_run_state(each.id, end(message="whoever sent it is gone"), force=True)
            discard(home.server(), str(each.parameters.get("box")))
