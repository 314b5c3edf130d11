"""Aggregate: on the server's side, one adapter per cluster from its members' adapters."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from prefect import task

from data.home import Home
from data.manifests import Manifest
from data.store import Ref, Store
from fedcore.adapters import Adapter, Layer
from fedcore.aggregation.rule import Trains
from fedcore.aggregation.sums import UpdateSum
from fedcore.config import AggregationConfig
from tasks._dispatch import in_worker
from tasks._members import Member
from tasks._stage import STAGE, Job, Made, commit


class AggregateJob(Job):
    """`members` by client id; `trains` the factors that clients moved; `state` the moments that the server's optimiser left before."""

    stage: ClassVar[str] = "aggregate"
    stage_version: ClassVar[int] = 3

    members: dict[str, Member]
    settings: AggregationConfig
    trains: Trains = "ab"
    state: Ref | None = None


def compute(job: AggregateJob) -> Made:
    """The cluster's adapter, and the optimiser's `state`; in the record, per layer, `‖D* − Δ‖/‖D*‖` of the rule, and its mean.

    One client's adapter at a time is in memory.
    """
    from safetensors.torch import load, save

    from fedcore import adapters
    from fedcore.aggregation import shares_of
    from fedcore.aggregation.server import stepped

    want, store = job.settings, Home.current().server()
    members = [job.members[client] for client in sorted(job.members)]
    weights = shares_of([m.weight for m in members])
    frozen = tails(store, members, weights)
    exact = UpdateSum()

    def one_by_one() -> Iterator[Adapter]:
        for member, weight in zip(members, weights, strict=True):
            adapter = member.load(store)
            exact.add(adapter, weight)
            yield adapter

    made = want.rule.combine(one_by_one(), weights, frozen, rank=want.rank, energy=want.energy)
    if frozen is not None:
        exact.add(frozen, 1.0)
    errors = adapters.relative_error(made.adapter, exact.adapter())
    outputs, adapter = {}, made.adapter
    if want.server.method != "none":
        before = {} if job.state is None else load(store.get(job.state))
        adapter, moments = stepped(began(store, members, weights), made.adapter, before, want.server.step(), job.trains)
        outputs["state"] = store.put(save(moments), "state", ".safetensors")
    record = {
        "error": sum(errors.values()) / len(errors),
        "error_by_layer": errors,
        "discarded_by_layer": made.discarded,
        "rank": max(layer.rank for layer in adapter.values()),
    }
    return Made({"adapter": store.put(adapters.to_bytes(adapter), "adapter", ".safetensors"), **outputs}, record)


def by_content(refs: list[Ref], weights: list[float]) -> Mapping[str, tuple[Ref, float]]:
    """Equal blobs once, with the sum of their weights: clients of one cluster were sent the same."""
    out: dict[str, tuple[Ref, float]] = {}
    for ref, weight in zip(refs, weights, strict=True):
        out[ref.sha256] = (ref, weight + (out[ref.sha256][1] if ref.sha256 in out else 0.0))
    return out


def tails(store: Store, members: list[Member], weights: list[float]) -> dict[str, Layer] | None:
    """`Σ p_k` of what stood beside the members' trainings and belongs to their update."""
    from fedcore import adapters

    having = [(m.tail, w) for m, w in zip(members, weights, strict=True) if m.tail is not None]
    if not having:
        return None
    total = UpdateSum()
    for ref, weight in by_content([tail for tail, _ in having], [w for _, w in having]).values():
        total.add(adapters.from_bytes(store.get(ref)), weight)
    return total.adapter()


def began(store: Store, members: list[Member], weights: list[float]) -> dict[str, Layer]:
    """The mean of the factors that the members began with."""
    from fedcore import adapters
    from fedcore.aggregation.sums import means

    distinct = by_content([m.start for m in members], weights).values()
    return means((adapters.from_bytes(store.get(ref)) for ref, _ in distinct), [w for _, w in distinct], "fedavg")


@task(name="aggregate", task_run_name="aggregate {label}", retries=1, **STAGE)
def aggregate(job: AggregateJob, label: str) -> Manifest:  # noqa: ARG001 the label is for people
    """One cluster's adapter."""
    manifest: Manifest = in_worker(commit, job, compute)
    return manifest
