"""A coordinator and two sites as separate processes and folders: nothing of a client's leaves its site; a silent one is left out."""

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from data.records import read_round
from data.store import Store
from data.tables import opened
from fedcore.adapters import from_bytes, split, to_bytes
from tests.e2e.conftest import CANARY, CLIENTS, Ran, write_world
from tests.e2e.servers import clean_environment, prefect_server, process, stop
from tests.e2e.test_federation import holders_of

pytestmark = pytest.mark.slow
SITES = {"north": ["c01", "c02"], "south": ["c04", "c05"]}


@dataclass(frozen=True)
class Place:
    """The folders: `coordinator` (state, federation file), `shared` (the store), one a site, `prefect` (the server's)."""

    root: Path
    api: str

    def environment(self, who: str) -> dict[str, str]:
        """Of the coordinator or of a site."""
        own = {"FEDCORE_HOME": str(self.root / who / "runs"), "PREFECT_HOME": str(self.root / who / "prefect")}
        return clean_environment(PREFECT_API_URL=self.api, FEDCORE_STORE=str(self.root / "shared"), **own)

    def fedcore(self, *arguments: str) -> Ran:
        """A command of the coordinator."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        done = subprocess.run(
            command,
            env=self.environment("coordinator"),
            cwd=self.root / "coordinator",
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        with (self.root / "coordinator" / "console.log").open("a") as log:
            log.write(done.stdout + done.stderr)
        return Ran(done.returncode, done.stdout + done.stderr)

    def site(self, name: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """A site's worker; its clients' files lie in its own folder."""
        options = ("--clients", str(self.root / name / "clients"), "--server", self.api, "--store", str(self.root / "shared"))
        return process(self.root / name / "log", self.environment(name), sys.executable, "-m", "flows.cli", "site", name, *options)

    def round(self, number: int) -> dict[str, dict[str, object]]:
        """The clients in a round's record."""
        record = json.loads((self.root / "shared" / "runs" / "demo" / f"round-{number:04}.json").read_text())
        clients: dict[str, dict[str, object]] = record["clients"]
        return clients


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Iterator[Place]:
    """A Prefect server, everything deployed, the clients' files at their sites only."""
    root = tmp_path_factory.mktemp("sites")
    (root / "whole").mkdir()
    world = write_world(root / "whole", base_folder)
    for site, clients in SITES.items():
        for client in clients:
            for file in (world.root / "demo").glob(f"{client}.*"):
                (root / site / "clients").mkdir(parents=True, exist_ok=True)
                file.rename(root / site / "clients" / file.name)
    values = yaml.safe_load(world.file.read_text())
    del values["clients"]
    (root / "coordinator").mkdir()
    (root / "coordinator" / "demo.yaml").write_text(yaml.safe_dump({**values, "sites": SITES, "client_timeout": 120}))
    with prefect_server(root / "prefect") as api:
        place = Place(root, api)
        subprocess.run(
            [sys.executable, "-c", "from flows.deploy import deploy; deploy(None)"],
            env=place.environment("coordinator"), check=True, capture_output=True, timeout=180,
        )  # fmt: skip
        yield place


def test_two_sites_train_together_and_nothing_of_their_clients_leaves_them(place: Place) -> None:
    with place.site("north"), place.site("south"):
        done = place.fedcore("run", "demo.yaml")
        assert done.code == 0, done.output
    assert "of memory for the model in each worker process" in done.output
    assert {c: who["failed"] for c, who in place.round(2).items()} == dict.fromkeys(sorted(CLIENTS))
    for site, clients in SITES.items():
        assert {p.name for p in (place.root / site / "runs" / "clients").iterdir()} == set(clients)
    pictures = [blob for table in place.root.rglob("clients/*.parquet") for blob in pq.read_table(table)["image"].to_pylist()]
    for outside in ("coordinator", "shared", "prefect"):
        assert holders_of(CANARY, place.root / outside) == []
        assert holders_of_any(pictures, place.root / outside) == []
    assert holders_of(CANARY, place.root / "north")
    (place.root / "shared" / "planted.bin").write_bytes(b"..." + pictures[3])
    assert holders_of_any(pictures, place.root / "shared") == ["planted.bin"]
    (place.root / "shared" / "planted.bin").unlink()


def holders_of_any(pictures: list[bytes], folder: Path) -> list[str]:
    """Names of files below `folder` that contain a piece of any picture: of its file, plain or in base64, or of its pixels."""
    pieces: list[bytes] = []
    for blob in pictures:
        third = len(blob) // 3
        pieces += [blob[third : third + 64], np.asarray(opened(blob)).tobytes()[4096:4160]]
        pieces += [base64.b64encode(blob[third + i :])[8:72] for i in range(3)]  # whatever stood before it
    plain = {bytes([255]) * 64}  # white paper is in every picture
    return [f.name for f in folder.rglob("*") if f.is_file() and any(p in whole for p in set(pieces) - plain for whole in [f.read_bytes()])]


def test_a_silent_site_is_left_out_by_name_and_joins_again_later(place: Place) -> None:
    with place.site("north"):
        with place.site("south") as south:
            stop(south, at_once=True)
            alone = place.fedcore("run", "demo.yaml", "--set", "rounds=3", "--set", "client_timeout=90")
            assert alone.code == 0, alone.output
        third = place.round(3)
        assert {c for c, who in third.items() if who["failed"]} == set(SITES["south"])
        assert "site 'south' did not answer within 90 s" in str(third["c04"]["failed"])
        with place.site("south"):
            together = place.fedcore("run", "demo.yaml", "--set", "rounds=4")
            assert together.code == 0, together.output
    fourth = place.round(4)
    assert not any(who["failed"] for who in fourth.values())
    echo = fourth["c04"]["training"]["echo"]  # type: ignore[index]
    store = Store(place.root / "shared")
    before = read_round(store, "demo", 3)
    assert before is not None
    sent = [split(from_bytes(store.get(c.own)), 4, 1.0, "cut", seed=0).start for c in before.clusters.values()]  # as its rank allows
    assert echo in {hashlib.sha256(to_bytes(adapter, transport="fp16")).hexdigest() for adapter in sent}
