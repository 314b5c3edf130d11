"""Keys: equal work has equal keys wherever it runs, and every parameter that matters changes them."""

from data.store import Ref
from fedcore.config import AggregationConfig
from tasks.aggregate import AggregateJob, Member
from tasks.encode import EncodeJob


def ref(content: str, uri: str = "blobs/x") -> Ref:
    return Ref(uri=uri, sha256=content * 32, kind="adapter", bytes=1)


def test_where_things_lie_is_not_part_of_the_key() -> None:
    here, there = (EncodeJob(client="c1", data="d", base=base, base_digest="x") for base in ("/here/base", "embedded"))
    assert here.key() == there.key()
    members = [{"c1": Member(adapter=ref("aa", uri), start=ref("cc"), weight=3)} for uri in ("blobs/1", "s3://elsewhere")]
    first, second = (AggregateJob(members=m, settings=AggregationConfig()) for m in members)
    assert first.key() == second.key()


def test_the_order_of_members_is_not_part_of_the_key() -> None:
    one, two = Member(adapter=ref("aa"), start=ref("cc"), weight=1), Member(adapter=ref("bb"), start=ref("cc"), weight=2)
    forth = AggregateJob(members={"c1": one, "c2": two}, settings=AggregationConfig())
    back = AggregateJob(members={"c2": two, "c1": one}, settings=AggregationConfig())
    assert forth.key() == back.key()


def test_content_client_and_parameters_are() -> None:
    base = EncodeJob(client="c1", data="d", base="b", base_digest="x")
    for change in ({"client": "c2"}, {"data": "e"}, {"base_digest": "y"}):
        assert base.model_copy(update=change).key() != base.key()
    job = AggregateJob(members={"c1": Member(adapter=ref("aa"), start=ref("cc"), weight=3)}, settings=AggregationConfig())
    for changed in (
        job.model_copy(update={"members": {"c1": Member(adapter=ref("bb"), start=ref("cc"), weight=3)}}),
        job.model_copy(update={"members": {"c1": Member(adapter=ref("aa"), start=ref("cc"), weight=4)}}),
        job.model_copy(update={"settings": AggregationConfig(rank=9)}),
        job.model_copy(update={"state": ref("dd")}),
    ):
        assert changed.key() != job.key()
