"""One tiny federation, end to end: two rounds, then a third, then nothing new; what it leaves behind and what it must not."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data.home import Home
from data.results import results as results_of
from data.tables import write_table
from tests.e2e.conftest import CANARY, CLIENTS, Ran, World, write_world


def manifests(world: World) -> dict[str, float]:
    """Every committed stage with the time it was computed."""
    found = (world.home / "server" / "manifests").rglob("*.json")
    return {f"{p.parent.name}/{p.stem}": json.loads(p.read_text())["finished"] for p in found}


def results(world: World) -> dict[str, Any]:
    return results_of(Home(world.home), "demo")


def test_a_federation_runs_and_shows_its_table(ran: Ran) -> None:
    assert ran.code == 0, ran.output
    for word in ("round 1 of 2", "round 2 of 2", "encode", "train", "cluster", "aggregate", "interact", "evaluate", "publish", *CLIENTS):
        assert word in ran.output, word


def test_results_have_the_documented_shape(ran: Ran, world: World) -> None:
    shown = world.command("results", "demo", "--json")
    made = json.loads(shown.output)
    assert made == json.loads(json.dumps(results(world)))
    assert set(made) == {"name", "state", "config", "rounds", "clients", "clusters", "summary", "artifacts"}
    assert made["name"] == "demo"
    assert made["state"] == "finished"
    first, second = made["rounds"]
    assert set(first) == {"round", "seconds", "bytes_up", "bytes_down", "clusters", "clients_failed", "aggregation_error"}
    assert sorted(c for members in second["clusters"].values() for c in members) == sorted(CLIENTS)
    assert first["clients_failed"] == {}
    assert [c["id"] for c in made["clients"]] == sorted(CLIENTS)
    for client in made["clients"]:
        assert set(client) == {"id", "style", "samples", "cluster", "adapter_sha256", "own_share", "loss"}
        assert client["samples"] == 8
        assert set(client["loss"]) == {"base", "cluster", "other_cluster", "personal"}
        assert client["loss"]["personal"] != client["loss"]["base"]
        assert any((world.home / "server" / "blobs").rglob(f"{client['adapter_sha256']}*"))
    assert set(made["summary"]) == {"ari", "gain_personal_mean", "style_accuracy", "seconds"}
    for cluster in made["clusters"]:
        assert set(cluster) == {"id", "size", "rank", "adapter_sha256"}


def test_the_gallery_shows_every_model_and_prompt(ran: Ran, world: World) -> None:
    picture = Image.open(world.home / "demo" / "gallery.png")
    rows = 1 + len(results(world)["clusters"]) + 1
    assert picture.height > rows * 32
    assert len(np.unique(np.asarray(picture))) > 20


def test_prefect_keeps_a_round_s_progress_table_and_gallery(ran: Ran, world: World) -> None:
    with sqlite3.connect(f"file:{world.home / 'prefect' / 'prefect.db'}?mode=ro", uri=True) as database:
        kept = {key: (kind, json.loads(data)) for key, kind, data in database.execute("SELECT key, type, CAST(data AS TEXT) FROM artifact")}
    assert kept["demo-progress-2"] == ("progress", 100)
    assert kept["demo-round-2"][0] == "table"
    rows = {row["client"]: row for row in json.loads(kept["demo-round-2"][1])}
    for c in results(world)["clients"]:
        assert (rows[c["id"]]["cluster"], rows[c["id"]]["personal"]) == (c["cluster"], pytest.approx(c["loss"]["personal"], abs=5e-5))
    assert kept["demo-gallery-2"][0] == "image"


def holders_of(word: str, folder: Path) -> list[str]:
    """Files below `folder` that contain `word`, in any case, in their name or bytes; sqlite files are also dumped as text."""
    found = []
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        blob = file.read_bytes().lower()
        if blob.startswith(b"sqlite format"):
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
                blob += "\n".join(database.iterdump()).lower().encode()
        if word.encode() in blob or word in file.name.lower():
            found.append(str(file.relative_to(folder)))
    return found


def test_no_word_of_a_client_is_found_outside_its_side(ran: Ran, world: World) -> None:
    assert CANARY not in ran.output.lower()
    for client in CLIENTS:
        assert CANARY in (world.root / "demo" / f"{client}.yaml").read_text()
        assert all(CANARY in prompt for prompt in pq.read_table(world.root / "demo" / f"{client}.parquet")["prompt"].to_pylist())
    leaks = [f for f in holders_of(CANARY, world.home) if not f.startswith("clients/")]
    assert leaks == []


def test_a_planted_leak_would_be_found(ran: Ran, world: World, tmp_path: Path) -> None:
    for database in ("prefect/prefect.db", "mlflow/mlflow.db"):
        copy = tmp_path / database
        copy.parent.mkdir(parents=True)
        shutil.copy(world.home / database, copy)
        with sqlite3.connect(copy) as connection:
            connection.execute("CREATE TABLE leak (words TEXT)")
            connection.execute("INSERT INTO leak VALUES (?)", (f"a picture of {CANARY}",))
    (tmp_path / "adapter.safetensors").write_bytes(b"..." + CANARY.upper().encode())
    found = {f.removesuffix("-wal") for f in holders_of(CANARY, tmp_path)}  # sqlite may keep new rows in its write-ahead log
    assert found == {"adapter.safetensors", "mlflow/mlflow.db", "prefect/prefect.db"}


def test_running_again_recomputes_nothing_and_more_rounds_only_add_theirs(ran: Ran, world: World, server: dict[str, str]) -> None:
    before, table = manifests(world), results(world)
    again = world.fedcore("run", str(world.file), **server)
    assert again.code == 0, again.output
    assert manifests(world) == before
    assert results(world) == table
    more = world.fedcore("run", str(world.file), "--set", "rounds=3", **server)
    assert more.code == 0, more.output
    after = manifests(world)
    assert {k: after[k] for k in before} == before
    new = sorted(k.split("/")[0] for k in set(after) - set(before))
    clusters = len(results(world)["clusters"])
    # requirements do not depend on the round, and the same wishes give the same clusters
    assert [n for n in new if n != "cluster"] == sorted(
        ["aggregate"] * clusters + ["evaluate"] * 4 + ["gallery", "interact"] + ["start"] * clusters + ["train"] * 4
    )
    assert len(results(world)["rounds"]) == 3


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("dispatch=pool", "no worker serves the pool 'gpu'; start one with `fedcore up`"),
        (f"sites={{lab: [{', '.join(CLIENTS)}]}}", "the Prefect server has no deployment 'train-shard/site'; run `fedcore deploy`"),
    ],
)
def test_a_server_that_was_not_prepared_is_told_in_one_line(world: World, server: dict[str, str], where: str, told: str) -> None:
    done = world.fedcore("run", str(world.file), "--name", "unprepared", "--set", where, **server)
    assert done.code == 1, done.output
    assert told in done.output
    assert "Traceback" not in done.output


def test_the_same_name_with_another_configuration_is_refused(ran: Ran, world: World) -> None:
    other = world.command("run", str(world.file), "--set", "training.lr=0.5")
    assert other.code == 2
    assert "training.lr: 0.001 → 0.5" in other.output
    assert "--name" in other.output


def test_a_client_that_fails_is_named_and_the_others_go_on(
    ran: Ran, world: World, server: dict[str, str], tmp_path: Path, base_folder: Path
) -> None:
    broken = write_world(tmp_path, base_folder)
    write_table(broken.root / "demo" / "c02.parquet", [(b"\x89PNG no picture", "cat", None)])
    done = broken.fedcore("run", str(broken.file), "--set", "rounds=1", **server)
    assert done.code == 0, done.output
    assert "c02" in done.output
    (first,) = results(broken)["rounds"]
    assert list(first["clients_failed"]) == ["c02"]
    assert "not a readable picture" in first["clients_failed"]["c02"]
    assert sorted(c for members in first["clusters"].values() for c in members) == ["c01", "c04", "c05"]
    same = {c["id"]: c["adapter_sha256"] for c in results(broken)["clients"]}
    record = json.loads((world.home / "server" / "runs" / "demo" / "round-0001.json").read_text())
    for client in ("c01", "c04", "c05"):  # another's failure does not change a byte of theirs
        assert same[client] == record["clients"][client]["personal"]["sha256"]
    strict = broken.fedcore("run", str(broken.file), "--set", "quorum=1.0", "--name", "strict_one", **server)
    assert strict.code == 1
    assert "quorum" in strict.output
