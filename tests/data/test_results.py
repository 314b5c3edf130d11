"""The table of a run: gains, agreement with known groups where they are known, and the files in the run's folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.home import Home
from data.records import ClientRecord, ClusterRecord, RoundRecord, bind, write_round
from data.results import gain, results, style_accuracy, write_results
from data.store import Ref
from fedcore.config import federation
from fedcore.errors import ConfigError

REF = Ref(uri="blobs/00/00", sha256="0" * 64, kind="x", bytes=1)


def losses(base: float, personal: float | None) -> dict[str, float | None]:
    return {"base": base, "cluster": 0.9, "other_cluster": None, "personal": personal}


def clients(**groups: str | None) -> dict[str, ClientRecord]:
    """Clients a, b in cluster 0, c, d in cluster 3; personal losses 10, 20, 30, 40 % below the base's."""
    return {
        c: ClientRecord(samples=4, group=g, cluster=0 if c in "ab" else 3, personal=REF, test=losses(2.0, 2.0 * (1 - (i + 1) / 10)))
        for i, (c, g) in enumerate(groups.items())
    }


def record(number: int = 1, **values: Any) -> RoundRecord:
    clusters = {
        i: ClusterRecord(members=m, adapter=REF, own=REF, rank=5, aggregation_error=e)
        for i, m, e in ((3, ["c", "d"], 0.3), (0, ["a", "b"], 0.1))
    }
    plain = {
        "clients": clients(a="openmoji", b="openmoji", c="noto", d="noto"),
        "clusters": clusters,
        "styles": {"cluster 0": ["openmoji", "openmoji", "noto"], "cluster 3": ["noto"], "base": ["openmoji"]},
    }
    known = {
        "clusters_ref": REF,
        "bank": REF,
        "gallery": REF,
        "base": "b",
        "silhouette": 0.5,
        "bytes_up": 10,
        "bytes_down": 20,
        "finished": 1e9,
    }
    return RoundRecord(**{"round": number, "seconds": 1.25, **plain, **known, **values})


def run(tmp_path: Path, *records: RoundRecord, planned: int = 1) -> dict[str, Any]:
    home = Home(tmp_path)
    bind(home.server(), federation({"name": "demo", "clients": ["a", "b", "c", "d"], "rounds": planned}, "f.yaml"))
    for r in records:
        write_round(home.server(), "demo", r)
    return results(home, "demo")


def test_the_gain_is_the_share_by_which_the_personal_loss_lies_below_the_bases() -> None:
    assert gain(losses(0.8, 0.6)) == pytest.approx(0.25)
    assert gain(losses(0.5, 0.6)) == pytest.approx(-0.2)
    assert gain(losses(0.5, None)) is None
    assert gain(losses(0.0, 0.0)) is None  # whoever says so is not believed, and costs nobody anything


def test_the_summary_of_a_run_with_known_groups(tmp_path: Path) -> None:
    """Of four gallery pictures three look like their cluster's style: 2 of 3 for cluster 0, 1 of 1 for cluster 3."""
    made = run(tmp_path, record(1), record(2, seconds=2.5), planned=2)
    assert made["state"] == "finished"
    assert made["summary"] == {"ari": 1.0, "gain_personal_mean": pytest.approx(0.25), "style_accuracy": 0.75, "seconds": 3.75}


def test_groups_that_were_not_found_lower_the_agreement(tmp_path: Path) -> None:
    assert run(tmp_path, record(clients=clients(a="openmoji", b="noto", c="openmoji", d="noto")))["summary"]["ari"] == pytest.approx(-0.5)


def test_without_groups_there_is_no_agreement_and_no_style_accuracy(tmp_path: Path) -> None:
    summary = run(tmp_path, record(clients=clients(a="openmoji", b="openmoji", c="noto", d=None)))["summary"]
    assert (summary["ari"], summary["style_accuracy"]) == (None, None)
    assert summary["gain_personal_mean"] == pytest.approx(0.25)


def test_a_client_that_failed_counts_nowhere_and_is_named(tmp_path: Path) -> None:
    everybody = {**clients(a="openmoji", b="openmoji", c="noto"), "d": ClientRecord(failed="took too long")}
    made = run(tmp_path, record(clients=everybody))
    assert made["rounds"][0]["clients_failed"] == {"d": "took too long"}
    assert made["summary"]["ari"] == 1.0
    assert made["summary"]["gain_personal_mean"] == pytest.approx(0.2)
    assert made["clients"][3] == {
        "id": "d",
        "style": None,
        "samples": 0,
        "cluster": None,
        "adapter_sha256": None,
        "own_share": 1.0,
        "loss": {"base": None, "cluster": None, "other_cluster": None, "personal": None},
    }


def test_style_accuracy_goes_by_the_style_of_most_members_and_needs_every_cluster_named() -> None:
    mixed = {**clients(a="openmoji", b="openmoji", c="noto", d="noto"), "b": ClientRecord(group="noto", cluster=0)}
    mixed["e"] = ClientRecord(group="noto", cluster=0)
    clusters = {0: ClusterRecord(members=["a", "b", "e"], adapter=REF, own=REF, rank=1, aggregation_error=None)}
    assert style_accuracy(record(clients=mixed, clusters=clusters)) == pytest.approx(1 / 3)
    assert style_accuracy(record(styles={"cluster 0": ["openmoji"], "cluster 3": None})) is None
    assert style_accuracy(record(clients=clients(a="ink", b="ink", c="noto", d="noto"))) is None  # the classifier knows no ink
    assert style_accuracy(record(styles={"cluster 0": ["openmoji"]})) is None


def test_rounds_clusters_and_clients_are_listed_as_documented(tmp_path: Path) -> None:
    made = run(tmp_path, record())
    assert made["rounds"] == [
        {
            "round": 1,
            "seconds": 1.25,
            "bytes_up": 10,
            "bytes_down": 20,
            "clusters": {"0": ["a", "b"], "3": ["c", "d"]},
            "clients_failed": {},
            "aggregation_error": pytest.approx(0.2),
        }
    ]
    assert made["clusters"] == [{"id": i, "size": 2, "rank": 5, "adapter_sha256": "0" * 64} for i in (0, 3)]
    assert [c["id"] for c in made["clients"]] == ["a", "b", "c", "d"]
    assert made["clients"][1]["loss"] == losses(2.0, 1.6)
    assert made["config"]["clients"] == ["a", "b", "c", "d"]
    assert made["artifacts"]["mlflow_uri"] == f"sqlite:///{tmp_path}/mlflow/mlflow.db"


def test_a_run_without_rounds_is_unfinished_and_empty(tmp_path: Path) -> None:
    made = run(tmp_path)
    assert (made["state"], made["rounds"], made["clients"], made["clusters"]) == ("unfinished", [], [], [])
    assert made["summary"] == {"ari": None, "gain_personal_mean": None, "style_accuracy": None, "seconds": None}
    with pytest.raises(ConfigError, match="there is no run 'other'; known: demo"):
        results(Home(tmp_path), "other")


def test_the_runs_folder_gets_the_results_and_the_last_gallery(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first, last = (home.server().put(content, "gallery", ".png") for content in (b"first", b"last"))
    made = run(tmp_path, record(1, gallery=first), record(2, gallery=last), planned=3)
    assert made["state"] == "unfinished"
    write_results(home, "demo")
    assert json.loads((tmp_path / "demo" / "results.json").read_text()) == made
    assert (tmp_path / "demo" / "gallery.png").read_bytes() == b"last"
