"""What a rerun reaches: by hand, on a run of two rounds with two clusters."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from data import manifests
from data.home import Home
from data.journal import Journal
from data.manifests import Manifest
from data.records import RoundRecord, is_published, mark_published, write_round
from fedcore.config import federation
from fedcore.errors import ConfigError, InputError
from flows.recovery import Step, affected, forget, left, told, unfinished_rounds

CLIENTS = ("c1", "c2", "c3")
CLUSTERS = {"0": ["c1", "c2"], "1": ["c3"]}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Two rounds in which every noted job is finished; the second has no record yet."""
    return begun(tmp_path)


def begun(root: Path, **values: Any) -> Home:
    """The same with other methods."""
    home = Home(root)
    store = home.server()
    plain = {"clustering": {"on": "requirements"}, "personal": {"method": "last"}}
    what = federation({"name": "demo", "clients": list(CLIENTS), "rounds": 2, **plain, **values}, "test")
    store.write_text("runs/demo/federation.json", json.dumps({"format": 1, "federation": what.model_dump(mode="json")}))
    for number in (1, 2):
        journal = Journal(store, "demo", number)
        everyone = {"encode": CLIENTS, "train": CLIENTS, "baseline": CLIENTS, "evaluate": CLIENTS}
        owners = {**everyone, "cluster": ("",), "aggregate": ("cluster 0", "cluster 1"), "interact": ("",), "gallery": ("",)}
        owners["start"] = ("rank 8",) if number == 1 else ("cluster 0 rank 8", "cluster 1 rank 8")
        for stage, names in owners.items():
            of_round = "" if stage in ("encode", "baseline") else f" {number}"
            keys = {name: f"{stage} {name}{of_round}" for name in names}
            journal.note(stage, keys)
            for key in keys.values():
                record = {"members": CLUSTERS} if stage == "cluster" else {}
                manifests.write(store, Manifest(stage=stage, version=1, key=key, parameters={}, outputs={}, record=record, libraries={}, threads=1, seconds=0, finished=time.time()))  # fmt: skip # noqa: E501
    return home


def reached(steps: list[Step]) -> set[str]:
    """Steps as 'round stage owner'."""
    return {f"{s.round} {s.stage} {s.owner}".strip() for s in steps}


STARTS = {"2 start cluster 0 rank 8", "2 start cluster 1 rank 8"}
LATER = STARTS | {
    f"2 {what}" for what in ("train c1", "train c2", "train c3", "aggregate cluster 0", "aggregate cluster 1", "interact", "gallery")
}
EVALUATED = {f"{n} evaluate {c}" for n in (1, 2) for c in CLIENTS}


def test_a_clients_training_reaches_its_own_cluster_and_what_is_mixed_from_it(home: Home) -> None:
    found = reached(affected(home, "demo", "train", 1, "c3"))
    assert found == {"1 train c3", "1 aggregate cluster 1", "1 interact", "1 gallery"} | EVALUATED | LATER


def test_one_wish_may_move_every_cluster_but_no_training_of_its_round(home: Home) -> None:
    found = reached(affected(home, "demo", "encode", 1, "c1"))
    of_round = {"1 encode c1", "1 cluster", "1 aggregate cluster 0", "1 aggregate cluster 1", "1 interact", "1 gallery"}
    assert found == of_round | EVALUATED | LATER | {"2 cluster"}


ADAM = {"aggregation": {"method": "fedavg", "server": {"method": "adam"}}}


@pytest.mark.parametrize(
    ("values", "stage", "owner", "adds"),
    [
        ({"clustering": {"on": "adapters"}}, "train", "c3", {"1 cluster"}),
        ({"clustering": {"method": "ifca", "k": 2, "warmup": 0}}, "evaluate", "c3", {"2 cluster"} | STARTS),
        ({"personal": {"method": "ditto"}}, "train", "c3", {"2 train c3"}),
        ({**ADAM, "interaction": {"method": "none"}}, "aggregate", "cluster 1", {"2 aggregate cluster 1"}),
    ],
)
def test_methods_that_look_further_back_are_followed(
    tmp_path: Path, values: dict[str, Any], stage: str, owner: str, adds: set[str]
) -> None:
    assert adds <= reached(affected(begun(tmp_path, **values), "demo", stage, 1, owner))


def test_nothing_follows_from_a_measurement(home: Home) -> None:
    assert reached(affected(home, "demo", "evaluate", None, None)) == {f"2 evaluate {c}" for c in CLIENTS}
    assert reached(affected(home, "demo", "baseline", 1, "c2")) == {"1 baseline c2"}


def test_what_is_forgotten_is_left_to_do_and_told_in_order(home: Home) -> None:
    assert left(home, "demo") == []
    assert unfinished_rounds(home, "demo") == [1, 2]
    chosen = affected(home, "demo", "aggregate", 2, None)
    forget(home, chosen)
    assert left(home, "demo") == chosen
    assert list(told(chosen)) == [
        "round 2: aggregate cluster 0, cluster 1",
        "round 2: interact",
        "round 2: gallery",
        "round 2: evaluate c1, c2, c3",
    ]


def test_an_encoding_that_two_rounds_share_is_lacking_in_both(home: Home) -> None:
    forget(home, affected(home, "demo", "baseline", 2, "c1"))
    assert reached(left(home, "demo")) == {"1 baseline c1", "2 baseline c1"}


def test_what_is_not_there_is_named(home: Home) -> None:
    with pytest.raises(InputError, match="has no round 3; its rounds are 1 to 2"):
        affected(home, "demo", "train", 3, None)
    with pytest.raises(InputError, match="has no stage 'assign'; it has encode, start, train"):
        affected(home, "demo", "assign", 2, None)
    with pytest.raises(InputError, match="has no client 'c9'; it has c1, c2, c3"):
        affected(home, "demo", "train", 2, "c9")
    with pytest.raises(ConfigError, match="there is no run 'other'"):
        affected(home, "other", "train", 2, None)


def test_publishing_can_be_done_again_where_a_round_is_finished(home: Home) -> None:
    with pytest.raises(InputError, match="has no stage 'publish'"):
        affected(home, "demo", "publish", 2, None)
    gallery = home.server().put(b"png", "gallery", ".png")
    record = RoundRecord(
        round=2, base="x", clients={}, clusters={}, clusters_ref=gallery, bank=gallery, gallery=gallery,
        styles={}, silhouette=None, bytes_up=0, bytes_down=0, seconds=0, finished=0,
    )  # fmt: skip
    mark_published(home.server(), "demo", write_round(home.server(), "demo", record))
    chosen = affected(home, "demo", "publish", 2, None)
    assert list(told(chosen)) == ["round 2: publish"]
    forget(home, chosen)
    assert not is_published(home.server(), "demo", record)
    assert left(home, "demo") == []  # nothing was computed from it
