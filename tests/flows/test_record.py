"""What a round's record keeps; a finished round is repaired with the clients and the data that it had, or not at all."""

import pytest

from data.records import ClientRecord, ClusterRecord, RoundRecord, TrainingRecord
from data.store import Ref
from fedcore.config import federation
from fedcore.errors import ConfigError, RoundFailed
from flows.record import enrolled_record, enrolments, insist_on_all, insist_on_base, insist_on_measured, kept, resting
from tasks.enrol import Enrolment

REF = Ref(uri="blobs/00/00", sha256="0" * 64, kind="x", bytes=1)
TRAINED = TrainingRecord(echo="e", round=2, samples=3, curve=[0.5])
RECORD = RoundRecord(
    round=2,
    base="b" * 64,
    clients={
        "c1": ClientRecord(data="a" * 64, samples=3, device="phone", group="line", personal=REF, cluster=4, training=TRAINED),
        "c2": ClientRecord(failed="no such table"),
        "c3": ClientRecord(data="b" * 64, samples=2, personal=REF, cluster=4, training=TRAINED, failed="evaluation hung"),
    },
    clusters={}, clusters_ref=REF, bank=REF, gallery=REF, styles={}, silhouette=None, bytes_up=0, bytes_down=0, seconds=1.0, finished=2.0,
)  # fmt: skip


def test_the_same_clients_are_asked_for_the_same_data() -> None:
    found = enrolments(RECORD)
    assert {c: (e.status, e.digest, e.samples) for c, e in found.items()} == {
        "c1": ("ok", "a" * 64, 3),
        "c2": ("failed", "", 0),
        "c3": ("ok", "b" * 64, 2),
    }
    assert (found["c1"].device, found["c1"].group, found["c2"].reason) == ("phone", "line", "no such table")


def test_a_repair_without_one_of_them_is_refused() -> None:
    insist_on_all(RECORD, {"c1", "c3"}, {})
    with pytest.raises(RoundFailed, match=r"^round 2 was finished with c3, which cannot do its part again \(its data changed\)"):
        insist_on_all(RECORD, {"c1"}, {"c3": "its data changed"})


def test_a_run_goes_on_with_the_weights_it_began_with() -> None:
    f = federation({"name": "demo", "clients": ["c1"]}, "f.yaml")
    insist_on_base(RECORD, f, "b" * 64)
    with pytest.raises(ConfigError, match=r"^run 'demo': round 2 was computed with other weights of base 'embedded' \(bbbbbbbbbbbb\)"):
        insist_on_base(RECORD, f, "c" * 64)


def test_a_repair_that_lacks_a_measurement_is_refused() -> None:
    measured = RECORD.model_copy(
        update={"clients": {**RECORD.clients, "c1": RECORD.clients["c1"].model_copy(update={"test": {"base": 1.0}})}}
    )
    insist_on_measured(measured, {"c1": {"test": {"base": 1.0}}, "c3": {}}, {})
    with pytest.raises(
        RoundFailed, match=r"^round 2 was finished with the losses of c1, which cannot measure them again \(its data changed\)"
    ):
        insist_on_measured(measured, {"c1": {}}, {"c1": "its data changed"})


def test_who_does_not_come_through_keeps_what_it_had() -> None:
    had = RECORD.clients["c1"]
    away = kept(had, "7")
    assert (away.asked, away.cluster, away.personal, away.training) == (False, 7, REF, None)
    assert kept(had, None).cluster == 4
    gone = enrolled_record(away, Enrolment(client="c1", status="failed", reason="x"), "no such table")
    assert (gone.asked, gone.cluster, gone.personal, gone.training, gone.failed) == (True, 7, REF, None, "no such table")
    assert (gone.data, gone.samples, gone.group) == (had.data, 3, "line")
    assert enrolments(RECORD.model_copy(update={"clients": {"c1": gone}}))["c1"].status == "failed"


def test_clusters_of_which_nobody_took_part_are_as_they_were() -> None:
    def cluster(kind: str, *members: str) -> ClusterRecord:
        ref = REF.model_copy(update={"kind": kind})
        return ClusterRecord(members=list(members), adapter=ref, own=ref, state=ref, rank=8, aggregation_error=0.1)

    clients = {f"c{i}": ClientRecord(cluster=home) for i, home in enumerate((4, 4, 5, 5, 5))}
    clusters = {4: cluster("four", "c0", "c1"), 5: cluster("five", "c2", "c3", "c4")}
    before = RECORD.model_copy(update={"clients": clients, "clusters": clusters})
    found = resting({"4": ["c0"], "5": [], "6": ["c1", "c2", "c3"], "7": ["c4"]}, {"4"}, before)
    assert {i: (record.adapter.kind, record.members, record.aggregation_error) for i, record in found.items()} == {
        "5": ("five", [], None),
        "6": ("five", ["c1", "c2", "c3"], None),  # new: two of its three members were in 5
        "7": ("five", ["c4"], None),
    }
    taken = resting({"4": ["c0", "c1", "c2"], "5": ["c3"], "6": ["c4"]}, {"4"}, before)
    assert [record.adapter.kind for record in taken.values()] == ["five", "five"]
    swapped = resting({"4": ["c2", "c3", "c4"], "5": ["c0", "c1"]}, {"4"}, before)
    assert swapped["5"].adapter.kind == "four"  # the id says nothing where nobody of it is there any more
    assert resting({"0": ["c0"]}, {"0"}, None) == {}
