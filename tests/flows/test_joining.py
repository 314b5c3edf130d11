"""The jobs of a round's server stages."""

from types import SimpleNamespace
from typing import Any

import pytest

from data.manifests import Manifest
from data.records import ClientRecord, ClusterRecord, RoundRecord
from data.store import Ref
from fedcore.config import federation
from flows.joining import aggregate_all, cluster_job
from flows.plan import Sent, bytes_sent, clusters_before
from tasks.aggregate import AggregateJob

REF = Ref(uri="blobs/00/00", sha256="0" * 64, kind="x", bytes=1)
CLUSTER = ClusterRecord(members=[], adapter=REF, own=REF, rank=4, aggregation_error=None)
MANIFEST = Manifest(stage="train", version=1, key="k", parameters={}, outputs={"adapter": REF}, record={}, libraries={}, threads=1, seconds=0, finished=0)  # fmt: skip # noqa: E501


def record(clients: str) -> RoundRecord:
    return RoundRecord(
        round=1, base="b" * 64, clients={c: ClientRecord(cluster=0, requirement=REF) for c in clients}, clusters={0: CLUSTER, 1: CLUSTER},
        clusters_ref=REF, bank=REF, gallery=REF, styles={}, silhouette=None, bytes_up=0, bytes_down=0, seconds=1.0, finished=2.0,
    )  # fmt: skip


@pytest.mark.parametrize(("method", "newcomer_s"), [("k-means", {"c": 1}), ("alone", {})])
def test_a_newcomer_goes_on_from_the_nearest_cluster_but_who_learns_alone_begins_afresh(method: str, newcomer_s: dict[str, int]) -> None:
    values = {"name": "x", "clients": ["a", "b", "c"], "clustering": {"method": method}, "interaction": {"method": "none"}}
    nearest = SimpleNamespace(record={"cluster": {"c": 1}})
    stages = SimpleNamespace(federation=federation(values, "f.yaml"), run=lambda *_: nearest)
    assert clusters_before(stages, dict.fromkeys("abc", REF), record("ab")) == {"a": 0, "b": 0, **newcomer_s}  # type: ignore[arg-type]


def test_a_client_that_did_not_come_through_counts_where_it_was_whatever_it_would_have_chosen() -> None:
    """A repair does not ask it again, and must come to the same clusters."""
    f = federation({"name": "x", "clients": ["a", "b"], "clustering": {"method": "ifca", "k": 2, "warmup": 0}}, "f.yaml")
    before, wishes = record("ab"), dict.fromkeys("ab", REF)
    first = cluster_job(f, 2, wishes, {"a": 1, "b": 1}, before, {}, {"a": MANIFEST})
    repair = cluster_job(f, 2, wishes, {"a": 1}, before, {}, {"a": MANIFEST})
    assert first.choices == {"a": 1, "b": 0}
    assert first.key() == repair.key()


@pytest.mark.parametrize(
    ("weights", "shares", "expected"),
    [
        ("pictures", {}, {"0": {"a": 6, "b": 10}, "1": {"c": 54}}),
        ("uniform", {}, {"0": {"a": 1, "b": 1}, "1": {"c": 1}}),
        (
            "pictures",
            {"a": {"0": 1.0}, "b": {"0": 0.7, "1": 0.3}, "c": {"1": 1.0}},
            {"0": {"a": 6, "b": 7.0}, "1": {"b": 3.0, "c": 54}},
        ),
    ],
)
def test_a_client_weighs_as_it_has_pictures_or_as_any_other_and_in_parts_where_it_belongs_to_several(
    weights: str, shares: dict[str, dict[str, float]], expected: dict[str, dict[str, float]]
) -> None:
    f = federation({"name": "x", "clients": ["a", "b", "c"], "aggregation": {"weights": weights}}, "f.yaml")
    jobs: dict[str, AggregateJob] = {}

    def submit(_task: object, job: AggregateJob, label: str) -> None:
        jobs[label.removeprefix("cluster ")] = job

    stages: Any = SimpleNamespace(federation=f, number=2, submit=submit, done=lambda *_: None)
    clustered: Any = SimpleNamespace(record={"members": {"0": ["a", "b"], "1": ["c"], "2": []}, "shares": shares})
    pictures = {"a": 6, "b": 10, "c": 54}
    trained = {c: MANIFEST.model_copy(update={"record": {"samples": n}}) for c, n in pictures.items()}
    asked: Any = {c: SimpleNamespace(start=REF, hands=None) for c in pictures}
    made = aggregate_all(stages, clustered, None, asked, trained, dict.fromkeys(pictures, Sent(REF, (), None)))
    assert set(made) == {"0", "1"}  # nobody is in the third
    assert {i: {c: m.weight for c, m in job.members.items()} for i, job in jobs.items()} == expected


def test_what_a_client_has_already_is_not_sent_again_and_a_blob_is_sent_once() -> None:
    start, tail, mixed, others = (
        Ref(uri="blobs/00/00", sha256=str(i) * 64, kind="adapter", bytes=n) for i, n in enumerate((1000, 200, 30, 4))
    )
    f = federation({"name": "x", "clients": ["a", "b"]}, "f.yaml")
    sent = Sent(start, (tail, tail), tail)
    assert bytes_sent(f, "a", sent, [mixed, start], {"0": others}, None) == 1230
    before = record("ab")
    before.clients["a"] = before.clients["a"].model_copy(update={"mixed": (start, mixed)})
    assert bytes_sent(f, "a", sent, [mixed], {"0": others}, before) == 200
    assert bytes_sent(f, "b", sent, [mixed], {"0": others}, before) == 1230
    by_loss = federation({"name": "x", "clients": ["a", "b"], "clustering": {"method": "ifca", "k": 2, "warmup": 0}}, "f.yaml")
    assert bytes_sent(by_loss, "b", sent, [], {"0": others, "1": others}, None) == 1208
