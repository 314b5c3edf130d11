"""The jobs of a round's server stages."""

from types import SimpleNamespace

import pytest

from data.manifests import Manifest
from data.records import ClientRecord, ClusterRecord, RoundRecord
from data.store import Ref
from fedcore.config import federation
from flows.joining import cluster_job
from flows.plan import clusters_before

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
