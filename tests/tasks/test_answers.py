"""What the server refuses of an answer before it is used, and that a good one passes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from data.home import HOME, Home
from data.manifests import Manifest
from data.store import Ref
from tasks._client import Outcome
from tasks.answers import losses, measured, read, wish
from tasks.encode import EncodeJob
from tasks.enrol import EnrolJob, Enrolment
from tasks.evaluate import BaselineJob, EvaluateJob

IDENTITY = {"client": "c1", "data": "d", "base": "b", "base_digest": "x"}
ENCODE = EncodeJob(**IDENTITY)
REF = Ref(uri="blobs/00/00", sha256="0" * 64, kind="adapter", bytes=0)
BASELINE = BaselineJob(**IDENTITY, timesteps=2, seed=0)
EVALUATE = EvaluateJob(**IDENTITY, timesteps=2, seed=0, clusters={"0": REF}, cluster="0", personal=(REF,))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv(HOME, str(tmp_path))
    return Home(tmp_path)


def manifest(job: EncodeJob | BaselineJob = ENCODE, outputs: dict[str, Ref] | None = None, **record: Any) -> Manifest:
    return Manifest(
        stage=job.stage, version=1, key=job.key(), parameters={}, outputs=outputs or {}, record=record,
        libraries={}, threads=1, seconds=0, finished=0,
    )  # fmt: skip


def sent(home: Home, vector: np.ndarray[Any, Any], name: str = "requirement") -> Manifest:
    return manifest(outputs={"requirement": home.server().put(save({name: vector}), "requirement", ".safetensors")})


def unit(size: int, fill: float = 1.0) -> np.ndarray[Any, Any]:
    return np.full(size, fill / size**0.5, dtype=np.float32)


def test_a_unit_vector_of_the_right_length_is_taken(home: Home) -> None:
    assert wish(sent(home, unit(16)), 16) is None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: manifest(), "handed over no requirement vector"),
        (lambda home: sent(home, unit(3)), "no unit vector of 16 numbers"),
        (lambda home: sent(home, unit(16, float("nan"))), "no unit vector of 16 numbers"),
        (lambda home: sent(home, unit(16, 100.0)), "no unit vector of 16 numbers"),
        (lambda home: sent(home, unit(16)[None]), "no unit vector of 16 numbers"),
        (lambda home: sent(home, unit(16), "something else"), "cannot be read"),
        (lambda home: sent(home, unit(100_000)), "bytes"),
        (lambda home: manifest(outputs={"requirement": home.server().put(b"pickle", "requirement", ".bin")}), "cannot be read"),
    ],
)
def test_another_wish_is_refused(home: Home, make: Callable[[Home], Manifest], reason: str) -> None:
    assert reason in str(wish(make(home), 16))


GOOD = {"cluster": 0.5, "other_cluster": None, "personal": 0.25}


def test_losses_as_asked_for_are_taken() -> None:
    assert losses(manifest(BASELINE, test={"base": 0.5}, tune={"base": 0.1}), BASELINE) is None
    assert losses(manifest(EVALUATE, test=GOOD, by_cluster={"0": 0.5}, share=1.0), EVALUATE) is None
    assert losses(manifest(EVALUATE, by_cluster={}, share=1.0), EVALUATE) is None  # a client without held-out pictures


@pytest.mark.parametrize(
    "record",
    [
        {"test": {**GOOD, "personal": float("nan")}},
        {"test": {**GOOD, "personal": None}},
        {"test": {**GOOD, "personal": "0.1"}},
        {"test": {**GOOD, "personal": -1.0}},
        {"test": {**GOOD, "personal": True}},
        {"test": {**GOOD, "personal": 1e308}},
        {"test": {"personal": 0.1}},
        {"test": {**GOOD, "more": 1.0}},
        {"train": GOOD},
        {"test": 0.1},
        {"test": GOOD, "by_cluster": {"7": 0.5}},
        {"test": GOOD, "by_cluster": {"0": float("nan")}},
        {"test": GOOD, "by_cluster": None},
        {"test": GOOD, "share": 0.5},
        {"test": GOOD, "share": None},
    ],
)
def test_other_losses_are_refused(record: dict[str, Any]) -> None:
    assert losses(manifest(EVALUATE, **{"by_cluster": {}, "share": 1.0, **record}), EVALUATE) is not None


def test_an_answer_is_read_as_it_was_given() -> None:
    given = Outcome(client="c1", status="ok", manifest=manifest())
    assert read("encode", "c1", ENCODE, given.model_dump_json()) == given
    failed = Enrolment(client="c1", status="failed", reason="no such file")
    assert read("enrol", "c1", EnrolJob(client="c1"), failed.model_dump_json()) == failed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read"),
        ('{"client": "c1", "status": "splendid"}', "cannot be read"),
        (Outcome(client="c2", status="ok", manifest=manifest()).model_dump_json(), "another's name"),
        ('{"client": "c1", "status": "ok"}', "cannot be read"),
        (Outcome(client="c1", status="ok", manifest=manifest()).model_dump_json().replace('"ok"', '"failed"'), "cannot be read"),
        (json.dumps({"client": "c1", "status": "failed", "reason": "x" * 300_000}), "more than 262,144 characters"),
        (Outcome(client="c1", status="ok", manifest=manifest(BASELINE)).model_dump_json(), "another job"),
    ],
)
def test_another_answer_is_that_client_s_failure(text: str, reason: str) -> None:
    answer = read("encode", "c1", ENCODE, text)
    assert (answer.client, answer.status) == ("c1", "failed")
    assert reason in str(answer.reason)


@pytest.mark.parametrize(
    "about",
    [
        {"samples": 10**400},
        {"samples": -1},
        {"samples": 0},
        {"digest": ""},
        {"digest": "../../etc/passwd"},
        {"device": "x" * 65},
    ],
)
def test_who_enrols_with_impossible_values_does_not_take_part(about: dict[str, Any]) -> None:
    sound = {"client": "c1", "status": "ok", "digest": "0" * 64, "device": "laptop", "samples": 3}
    assert read("enrol", "c1", EnrolJob(client="c1"), json.dumps(sound)).status == "ok"
    assert read("enrol", "c1", EnrolJob(client="c1"), json.dumps({**sound, **about})).status == "failed"


def test_a_strangers_words_can_be_shown_anywhere() -> None:
    told = read(
        "enrol", "c1", EnrolJob(client="c1"), json.dumps({"client": "c1", "status": "failed", "reason": "\x1b[2Jgone\n" + "y" * 999})
    )
    assert told.reason == " [2Jgone " + "y" * 491


def test_an_evaluation_of_other_splits_than_the_baseline_s_is_refused() -> None:
    plain = {"c1": Outcome(client="c1", status="ok", manifest=manifest(BASELINE, test={"base": 0.5}))}
    assert measured(plain)(manifest(EVALUATE, test=GOOD, by_cluster={}, share=1.0), EVALUATE) is None
    assert "other splits" in str(measured(plain)(manifest(EVALUATE), EVALUATE))
    assert "other splits" in str(measured(plain)(manifest(EVALUATE, test=GOOD, tune=GOOD), EVALUATE))
