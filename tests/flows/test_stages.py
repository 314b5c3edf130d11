"""How a round takes the answers of clients that compute elsewhere."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from data import manifests
from data.home import HOME, Home
from data.journal import Journal, read_journal
from data.manifests import Manifest
from fedcore.config import federation
from flows.stages import Stages
from tasks._client import Outcome
from tasks._stage import ClientJob
from tasks.encode import EncodeJob, encode


class Elsewhere(Stages):
    """Answers come as if from a site: all say that they are done, but only c1's result is in the store."""

    def _elsewhere(self, kind: str, jobs: Mapping[str, ClientJob], costs: Mapping[str, float]) -> Iterator[Any]:  # noqa: ARG002
        for client, job in jobs.items():
            made = Manifest(
                stage=kind, version=job.stage_version, key=job.key(), parameters=job.parameters(), outputs={}, record={}, libraries={},
                threads=1, seconds=0, finished=time.time(),
            )  # fmt: skip
            if client == "c1":
                manifests.write(self.store, made)
            yield Outcome(client=client, status="ok", manifest=made)


def test_an_answer_whose_result_nobody_can_read_again_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME, str(tmp_path))
    store = Home.current().server()
    f = federation({"name": "demo", "clients": ["c1", "c2"], "dispatch": "pool"}, "f.yaml")
    stages = Elsewhere(f, 1, Journal(store, "demo", 1), store)
    jobs = [EncodeJob(client=c, data="d", base="b", base_digest="b" * 64) for c in ("c1", "c2")]
    found = stages.clients(encode, jobs)
    assert {c: (o.status, o.reason) for c, o in found.items()} == {"c1": ("ok", None), "c2": ("refused", "its result is not in the store")}
    assert set(read_journal(store, "demo", 1)["encode"]) == {"c1"}
