"""What a client may hand over: anything else is refused by name and reason."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from data.home import HOME, Home
from data.manifests import Manifest
from data.store import Ref
from fedcore import adapters
from fedcore.adapters import Factor, Layer
from fedcore.base import BaseModel
from fedcore.injection import initial, target_shapes
from tasks._client import Outcome
from tasks.receive import Expected, checked

Adapter = dict[str, Layer]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv(HOME, str(tmp_path))
    return Home.current()


@pytest.fixture
def sent(base: BaseModel) -> Adapter:
    return initial(target_shapes(base, "attention"), rank=4, scale=1.0, seed=0)


@pytest.fixture
def trained(sent: Adapter) -> Adapter:
    return {name: Layer(layer.a, layer.b + 0.01, layer.scale) for name, layer in sent.items()}


def put(home: Home, blob: bytes) -> Ref:
    return home.server().put(blob, "adapter", ".safetensors")


def hand_over(
    home: Home,
    base_folder: Path,
    sent: Adapter,
    blob: bytes,
    before: str | None = None,
    hands: Factor | None = None,
    personal: bytes | None = None,
    transport: adapters.Transport = "fp32",
    **record: Any,
) -> Outcome:
    """One client's outcome as the server judges it."""
    outputs = {"adapter": put(home, blob)} | ({"personal": put(home, personal)} if personal else {})
    start = put(home, adapters.to_bytes(sent, transport=transport))
    account = {"echo": start.sha256, "round": 1, "samples": 8, "curve": [0.6, 0.5]}
    told = {name: value for name, value in {**account, **record}.items() if value is not None}
    manifest = Manifest(stage="train", version=1, key="k", parameters={}, outputs=outputs, record=told, libraries={}, threads=1, seconds=0, finished=time.time())  # fmt: skip # noqa: E501
    expected = Expected(
        start=start, hands=hands, private=personal is not None, transport=transport, rank=4, round=1, samples=8,
        before=before,
    )  # fmt: skip
    (outcome,) = checked([Outcome(client="c1", status="ok", manifest=manifest)], [expected])
    return outcome


def test_a_sound_adapter_is_accepted(home: Home, base_folder: Path, sent: Adapter, trained: Adapter) -> None:
    assert hand_over(home, base_folder, sent, adapters.to_bytes(trained)).status == "ok"


def test_adapters_come_in_the_precision_that_was_agreed_on(home: Home, base_folder: Path, sent: Adapter, trained: Adapter) -> None:
    small = adapters.to_bytes(trained, transport="fp16")
    assert hand_over(home, base_folder, sent, small, transport="fp16").status == "ok"
    whole = hand_over(home, base_folder, sent, adapters.to_bytes(trained), transport="fp16")
    assert str(whole.reason).endswith("travels as torch.float32, not as torch.float16")
    one = adapters.to_bytes(trained, only="b", transport="fp16")
    assert hand_over(home, base_folder, sent, one, hands="b", personal=small, transport="fp16").status == "ok"
    for blob, personal in ((adapters.to_bytes(trained, only="b"), small), (one, adapters.to_bytes(trained))):
        mixed = hand_over(home, base_folder, sent, blob, hands="b", personal=personal, transport="fp16")
        assert str(mixed.reason).endswith("travels as torch.float32, not as torch.float16")
    half = hand_over(home, base_folder, sent, small)
    assert str(half.reason).endswith("travels as torch.float16, not as torch.float32")
    same = hand_over(home, base_folder, sent, adapters.to_bytes(sent, transport="fp16"), transport="fp16")
    assert same.reason == "handed back the adapter it was sent: nothing was trained"


def with_nan(adapter: Adapter) -> bytes:
    name = min(adapter)
    broken = adapter[name].b.clone()
    broken[0, 0] = torch.nan
    return adapters.to_bytes(adapter | {name: Layer(adapter[name].a, broken, 1.0)})


def without_a_layer(adapter: Adapter) -> bytes:
    return adapters.to_bytes({n: layer for n, layer in adapter.items() if n != min(adapter)})


def of_another_rank(adapter: Adapter) -> bytes:
    return adapters.to_bytes({n: Layer(layer.a[:2], layer.b[:, :2], 1.0) for n, layer in adapter.items()})


def of_another_scale(adapter: Adapter) -> bytes:
    return adapters.to_bytes({n: Layer(layer.a, layer.b, 3.0) for n, layer in adapter.items()})


def far_too_large(adapter: Adapter) -> bytes:
    return save({"padding": torch.zeros(10_000_000)})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (with_nan, "not finite"),
        (without_a_layer, "is missing"),
        (of_another_rank, "expected"),
        (of_another_scale, "has scale 3, was sent with 1"),
        (far_too_large, "bytes, at most"),
        (lambda _: b"\x80\x04\x95 a pickle", "not a safetensors file"),
    ],
)
def test_a_bad_file_is_refused(
    make: Callable[[Adapter], bytes], reason: str, home: Home, base_folder: Path, sent: Adapter, trained: Adapter
) -> None:
    outcome = hand_over(home, base_folder, sent, make(trained))
    assert outcome.status == "refused"
    assert outcome.manifest is None
    assert reason in str(outcome.reason)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"echo": "0" * 64}, "but was sent"),
        ({"round": 0}, "answers for round 0"),
        ({"samples": 9}, "reports 9 pictures, enrolled with 8"),
        ({"samples": 0}, "wrong at 'samples'"),
        ({"samples": True}, "wrong at 'samples'"),
        ({"samples": "many"}, "wrong at 'samples'"),
        ({"curve": None}, "wrong at 'curve'"),
        ({"curve": []}, "wrong at 'curve'"),
        ({"curve": [0.5] * 101}, "wrong at 'curve'"),
        ({"curve": [0.5, float("nan")]}, "wrong at 'curve.1'"),
        ({"diary": "dear diary"}, "wrong at 'diary'"),
    ],
)
def test_a_wrong_story_is_refused(
    record: dict[str, Any], reason: str, home: Home, base_folder: Path, sent: Adapter, trained: Adapter
) -> None:
    outcome = hand_over(home, base_folder, sent, adapters.to_bytes(trained), **record)
    assert outcome.status == "refused"
    assert reason in str(outcome.reason)


def test_its_adapter_of_the_round_before_is_refused(home: Home, base_folder: Path, sent: Adapter, trained: Adapter) -> None:
    blob = adapters.to_bytes(trained)
    assert hand_over(home, base_folder, sent, blob, before="0" * 64).status == "ok"
    outcome = hand_over(home, base_folder, sent, blob, before=put(home, blob).sha256)
    assert outcome.status == "refused"
    assert "of the round before" in str(outcome.reason)


def test_the_adapter_it_was_sent_is_refused(home: Home, base_folder: Path, sent: Adapter) -> None:
    outcome = hand_over(home, base_folder, sent, adapters.to_bytes(sent))
    assert outcome.status == "refused"
    assert "nothing was trained" in str(outcome.reason)


@pytest.mark.parametrize("hands", ["a", "b"])
def test_one_factor_is_taken_where_it_is_asked_for(hands: Factor, home: Home, base_folder: Path, sent: Adapter, trained: Adapter) -> None:
    moved = {n: Layer(layer.a + 0.01, layer.b, layer.scale) for n, layer in trained.items()}
    whole, half = adapters.to_bytes(moved), adapters.to_bytes(moved, only=hands)
    assert len(half) < 0.75 * len(whole)
    assert hand_over(home, base_folder, sent, half, hands=hands, personal=whole).status == "ok"
    for blob, reason in ((whole, "no part of an adapter"), (adapters.to_bytes(sent, only=hands), "nothing was trained")):
        outcome = hand_over(home, base_folder, sent, blob, hands=hands, personal=whole)
        assert outcome.status == "refused"
        assert reason in str(outcome.reason)


def test_a_personal_adapter_is_checked_as_well(home: Home, base_folder: Path, sent: Adapter, trained: Adapter) -> None:
    half = adapters.to_bytes(trained, only="b")
    for personal, reason in ((None, "no personal adapter"), (with_nan(trained), "not finite"), (of_another_rank(trained), "expected")):
        outcome = hand_over(home, base_folder, sent, half, hands="b", personal=personal)
        if personal is None:  # the server's own books say that one must come
            continue
        assert outcome.status == "refused"
        assert reason in str(outcome.reason)
