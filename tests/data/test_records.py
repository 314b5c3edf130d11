"""What the server keeps of a run: a name bound to one configuration, and rounds without gaps."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.records import (
    ClientRecord,
    ClusterRecord,
    RoundRecord,
    TrainingRecord,
    beginning,
    bind,
    bound,
    champion,
    extend,
    names,
    read_round,
    rounds,
    write_round,
)
from data.store import Ref, Store
from fedcore.config import Federation, federation
from fedcore.errors import ConfigError, StoreError

REF = Ref(uri="blobs/00/00", sha256="0" * 64, kind="x", bytes=1)
LOSSES = {"base": 1.0, "cluster": 0.9, "other_cluster": 1.1}


def configuration(**values: Any) -> Federation:
    return federation({"name": "demo", "clients": ["a", "b"], "rounds": 3, **values}, "f.yaml")


def record(number: int = 1, tune: dict[str, float | None] | None = None, **values: Any) -> RoundRecord:
    """A round whose clients' personal tuning losses are `tune`."""
    clients = {c: ClientRecord(samples=4, tune=None if v is None else {**LOSSES, "personal": v}) for c, v in (tune or {}).items()}
    plain = {"clusters_ref": REF, "bank": REF, "gallery": REF, "base": "b", "clusters": {}, "styles": {}, "silhouette": None}
    return RoundRecord(
        **{"round": number, "clients": clients, **plain, "bytes_up": 1, "bytes_down": 2, "seconds": 1.0, "finished": 1e9, **values}
    )


# The name


def test_a_name_is_bound_to_its_configuration(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert names(store) == []
    bind(store, configuration())
    bind(store, configuration())
    bind(store, configuration(name="other"))
    assert bound(store, "demo") == configuration()
    assert names(store) == ["demo", "other"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"seed": 1}, "seed: 0 → 1"),
        ({"training": {"lr": 0.5}}, "training.lr: 0.001 → 0.5"),
        ({"clients": ["a"]}, r"clients: \['a', 'b'\] → \['a'\]"),
        ({"rounds": 9, "client_timeout": 1, "interaction": {"own": 0.5}}, "interaction.own: 0.9 → 0.5"),
        ({"adapter": {"rank": {"phone": 4}}}, r"adapter.rank: 8 → \{'phone': 4\}"),
    ],
)
def test_another_configuration_under_the_same_name_is_refused_by_its_field(tmp_path: Path, values: dict[str, Any], shown: str) -> None:
    store = Store(tmp_path)
    bind(store, configuration())
    with pytest.raises(ConfigError, match=rf"^run 'demo' exists with another configuration \({shown}\); .*\(--name\) or remove"):
        bind(store, configuration(**values))
    assert bound(store, "demo") == configuration()


def test_ranks_by_device_class_are_named_down_to_the_class(tmp_path: Path) -> None:
    store = Store(tmp_path)
    bind(store, configuration(adapter={"rank": {"phone": 4, "laptop": 8}}))
    with pytest.raises(ConfigError, match=r"\(adapter\.rank\.phone: 4 → 2\)"):
        bind(store, configuration(adapter={"rank": {"phone": 2, "laptop": 8}}))


def test_more_rounds_and_another_time_limit_extend_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    bind(store, configuration())
    bind(store, configuration(rounds=5, client_timeout=7))
    assert bound(store, "demo") == configuration(rounds=5, client_timeout=7)


def test_a_run_that_begins_with_another_one_s_cluster_is_bound_only_where_there_is_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    bind(store, configuration(name="first"))
    for run, reason in (("nope", "there is no run 'nope'"), ("demo", "there is no run 'demo'"), ("first", "its clusters: none yet")):
        with pytest.raises(ConfigError, match=reason):
            bind(store, configuration(begin={"run": run}))
    cluster = ClusterRecord(members=["a"], adapter=REF, own=REF, rank=1, aggregation_error=None)
    write_round(store, "first", record(clusters={3: cluster}))
    with pytest.raises(ConfigError, match="begin: run 'first' has no cluster 0; its clusters: 3"):
        bind(store, configuration(begin={"run": "first"}))
    assert names(store) == ["first"]
    bind(store, configuration(begin={"run": "first", "cluster": 3}))
    assert beginning(store, bound(store, "demo")) == REF


@pytest.mark.parametrize("timeout", [600, 7])
def test_fewer_rounds_do_not_shorten_a_run(tmp_path: Path, timeout: float) -> None:
    store = Store(tmp_path)
    bind(store, configuration(rounds=5))
    bind(store, configuration(rounds=2, client_timeout=timeout))
    assert bound(store, "demo").rounds == 5


def test_an_unknown_run_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ConfigError, match="there is no run 'demo'; known: none yet, start one with `fedcore run`"):
        bound(store, "demo")
    bind(store, configuration(name="b"))
    bind(store, configuration(name="a"))
    with pytest.raises(ConfigError, match=r"there is no run 'demo'; known: a, b$"):
        bound(store, "demo")


def test_a_complete_run_is_extended_once_by_the_same_caller(tmp_path: Path) -> None:
    """A schedule's run adds rounds; its retry after a crash must not add more."""
    store = Store(tmp_path)
    bind(store, configuration(rounds=1))
    extend(store, "demo", 2, by="monday")
    assert bound(store, "demo").rounds == 1  # not complete yet
    write_round(store, "demo", record(1))
    extend(store, "demo", 0, by="monday")
    assert bound(store, "demo").rounds == 1
    extend(store, "demo", 1, by="monday")
    assert bound(store, "demo").rounds == 2
    write_round(store, "demo", record(2))
    extend(store, "demo", 1, by="monday")
    assert bound(store, "demo").rounds == 2
    extend(store, "demo", 1, by="tuesday")
    assert bound(store, "demo").rounds == 3


# Rounds


def test_rounds_come_back_in_order_and_end_at_the_first_gap(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in (2, 1, 4):
        write_round(store, "demo", record(number, {"a": number / 10}))
    assert [r.round for r in rounds(store, "demo")] == [1, 2]
    assert read_round(store, "demo", 4) == record(4, {"a": 0.4})
    assert read_round(store, "demo", 3) is None
    assert rounds(store, "other") == []


def test_the_same_round_computed_again_keeps_its_first_times(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = write_round(store, "demo", record(1, {"a": 0.1}))
    assert write_round(store, "demo", record(1, {"a": 0.1}, seconds=9.0, finished=2e9)) == first
    assert read_round(store, "demo", 1) == first
    changed = record(1, {"a": 0.2}, seconds=9.0)
    assert write_round(store, "demo", changed) == changed
    assert read_round(store, "demo", 1) == changed


def test_means_are_over_the_clients_that_have_the_loss() -> None:
    made = record(tune={"a": 0.2, "b": 0.6, "c": None})
    assert made.mean("personal", "tune") == pytest.approx(0.4)
    assert made.mean("cluster", "tune") == pytest.approx(0.9)
    assert str(made.mean("personal", "test")) == "nan"


def test_the_champion_has_the_lowest_mean_personal_loss_on_the_tuning_splits() -> None:
    records = [
        record(1, {"a": 0.5, "b": 0.5}),
        record(2, {"a": 0.1, "b": 0.7}),
        record(3, {"a": 0.6, "b": 0.2}),
        record(4, {"a": 0.2, "b": 0.9}),
    ]
    assert champion(records).round == 2
    assert champion(records[2:]).round == 3


def test_a_round_without_tuning_losses_is_no_champion_where_another_has_some() -> None:
    assert champion([record(1, {"a": None}), record(2, {"a": 0.5})]).round == 2
    assert champion([record(1, {"a": 0.5}), record(2, {"a": None})]).round == 1
    assert champion([record(1), record(2)]).round == 1


def test_a_personal_model_is_its_parts_and_what_is_lacking_to_one_of_what_it_is_mixed_with() -> None:
    own, beside, common, rest = (Ref(uri=f"blobs/{x}", sha256=x * 64, kind="x", bytes=1) for x in "abcd")

    def model(**values: Any) -> object:
        return record(clients={"k": ClientRecord(cluster=3, **values)}).model_of("k")

    assert model() == ()
    assert model(personal=own) == ((1.0, own),)
    assert model(personal=own, beside=(beside,)) == ((1.0, own), (1.0, beside))
    assert model(personal=own, beside=(beside,), mixed=(common,), share=0.25) == ((0.25, own), (0.25, beside), (0.75, common))
    assert model(personal=own, mixed=(common, rest), share=0.0) == ((1.0, common), (1.0, rest))
    assert model(personal=own, mixed=(common,)) == ((1.0, own),)


def test_a_damaged_configuration_or_record_is_named_with_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path)
    bind(store, configuration())
    write_round(store, "demo", record())
    for content in (b"", b"{}", b"[1]", b"\xff\xfe"):
        (tmp_path / "runs" / "demo" / "federation.json").write_bytes(content)
        for use in (lambda: bound(store, "demo"), lambda: bind(store, configuration())):
            with pytest.raises(StoreError, match=r"runs/demo/federation\.json: is damaged; remove it, and `fedcore run`"):
                use()
    (tmp_path / "runs" / "demo" / "round-0001.json").write_bytes(b"{")
    with pytest.raises(StoreError, match="remove the file: `fedcore resume demo` makes it again"):
        read_round(store, "demo", 1)


def test_absurdly_high_losses_are_none(tmp_path: Path) -> None:
    for curve in ([1e308], [float("nan")], [-1.0]):
        with pytest.raises(ValidationError):
            TrainingRecord(echo="e", round=1, samples=1, curve=curve)
