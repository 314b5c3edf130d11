"""Files that hold one factor only: half the bytes, completed from what the server has, and checked as any other."""

import pytest
import torch
from safetensors.torch import load, save

from fedcore.adapters import Factor, completed, to_bytes
from fedcore.errors import AdapterRefused
from tests.tiny import random_adapter

SHAPES = {"x.to_q": (9, 7), "x.to_k": (6, 8)}
MINE, OTHER = random_adapter(SHAPES, 3, "mine", scale=0.5), random_adapter(SHAPES, 3, "other", scale=0.5)


@pytest.mark.parametrize(("only", "other"), [("a", "b"), ("b", "a")])
def test_one_factor_travels_and_the_other_is_taken_from_what_was_sent(only: Factor, other: str) -> None:
    blob = to_bytes(MINE, only=only)
    assert set(load(blob)) == {f"{n}.{part}" for n in SHAPES for part in (f"lora_{only.upper()}", "scale")}
    made = completed(blob, only, OTHER)
    for name in SHAPES:
        assert torch.equal(getattr(made[name], only), getattr(MINE[name], only))
        assert torch.equal(getattr(made[name], other), getattr(OTHER[name], other))
        assert made[name].scale == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("x.to_q.lora_B"), r"layer 'x\.to_q' lacks lora_B"),
        (lambda t: [t.pop("x.to_q.lora_B"), t.pop("x.to_q.scale")], r"layer 'x\.to_q' is missing"),
        (lambda t: t.update({"y.to_q.lora_B": torch.zeros(1), "y.to_q.scale": torch.tensor(1.0)}), r"'y\.to_q' is not one of the adapted"),
        (lambda t: t.update({"x.to_q.lora_B": torch.zeros(9, 2)}), r"factor B of shape \(9, 2\), expected \(9, 3\)"),
        (lambda t: t.update({"x.to_q.lora_A": torch.zeros(3, 7)}), r"no part of an adapter: 'x\.to_q\.lora_A'"),
        (lambda t: t.update({"x.to_q.scale": torch.ones(2)}), r"scale of shape \(2,\)"),
    ],
)
def test_another_file_is_refused_by_the_name_of_its_layer(change, message: str) -> None:  # type: ignore[no-untyped-def]
    tensors = load(to_bytes(MINE, only="b"))
    change(tensors)
    with pytest.raises(AdapterRefused, match=message):
        completed(save(tensors), "b", OTHER)


def test_rubbish_is_refused() -> None:
    with pytest.raises(AdapterRefused, match="not a safetensors file"):
        completed(b"rubbish", "a", OTHER)
