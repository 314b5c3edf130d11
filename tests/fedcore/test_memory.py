"""What training needs of memory, told beforehand, is what it then takes: counted while the real classes train."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.base.load import forget_base, imagined, load_base
from fedcore.base import BaseModel
from fedcore.evaluation import heldout_losses
from fedcore.injection import Target, initial, target_shapes
from fedcore.memory import Needs, counted, needs
from fedcore.prompts import nothing
from fedcore.seeds import generator
from fedcore.training import Examples, Settings, train
from tests.families import FAMILIES, saved

SETTINGS = Settings(steps=2, batch=6, lr=1e-3, min_snr=5.0, caption_dropout=0.0, clip_norm=1.0, weight_decay=0.0)


def told(folder: Path, settings: Settings = SETTINGS, target: Target = "attention", precision: str = "fp32") -> Needs:
    with imagined(str(folder), "bf16" if precision == "bf16" else "fp32") as base:
        return needs(base, 4, target, settings)


def taken(base: BaseModel, target: Target = "attention") -> int:
    """Bytes beside the base's own weights, at most, while a client trains."""
    shape = base.family.shape(base, None)
    latents = torch.randn((8, *shape), generator=generator(0, "latents"))
    examples = Examples(latents, torch.full_like(latents, -8), nothing(base).times(8))
    adapter = initial(target_shapes(base, target), rank=4, scale=1.0, seed=0)
    train(base, examples, adapter, replace(SETTINGS, steps=1), seed=0)  # PEFT's layers are made once
    with counted([*base.text_encoders, base.vae, base.denoiser]) as count:
        train(base, examples, adapter, SETTINGS, seed=0)
    return count.most


@pytest.mark.parametrize(("name", "target"), [*((name, "attention") for name in sorted(FAMILIES)), ("sd15", "all"), ("flux", "all")])
def test_every_family_takes_what_was_told(name: str, target: Target, tmp_path: Path) -> None:
    saved(name, tmp_path)
    found, base = told(tmp_path, target=target), load_base(str(tmp_path), device="cpu")
    parts = (*base.text_encoders, base.vae, base.denoiser)
    assert found.weights == sum(t.nbytes for part in parts for t in (*part.parameters(), *part.buffers()))
    assert found.training(beside=False) == pytest.approx(taken(base, target), rel=0.2)
    forget_base()


def test_sums_with_an_adapter_are_counted_where_one_stands_beside_and_where_losses_are_measured(tmp_path: Path) -> None:
    saved("sdxl", tmp_path)
    found, base = told(tmp_path), load_base(str(tmp_path), device="cpu")
    parts, shape = (*base.text_encoders, base.vae, base.denoiser), base.family.shape(base, None)
    adapted = [base.denoiser.get_submodule(name).weight for name in target_shapes(base, "attention")]
    assert found.copies == sum(weight.nbytes for weight in adapted)
    latents = torch.randn((8, *shape), generator=generator(0, "latents"))
    examples = Examples(latents, torch.full_like(latents, -8), nothing(base).times(8))
    adapter = initial(target_shapes(base, "attention"), rank=4, scale=1.0, seed=0)
    with counted(parts) as count:
        heldout_losses(base, examples, adapter, timesteps=8, seed=0)
    assert found.copies + found.measuring == pytest.approx(count.most, rel=0.2)
    train(base, examples, adapter, replace(SETTINGS, steps=1), seed=0)
    most = []
    for beside in (None, adapter):
        with counted(parts) as count:
            train(base, examples, adapter, SETTINGS, seed=0, beside=beside)
        most.append(count.most)
    assert most[1] - most[0] == pytest.approx(found.copies, rel=0.2)
    assert told(tmp_path, precision="bf16").copies == 0  # injected instead
    forget_base()


@pytest.mark.parametrize(
    ("told", "beside", "total"),
    [
        (Needs(weights=100, adapter=1, step=10, encoding=5, measuring=1, copies=8), False, 111),
        (Needs(weights=100, adapter=1, step=10, encoding=5, measuring=1, copies=8), True, 119),
        (Needs(weights=100, adapter=1, step=10, encoding=30, measuring=1, copies=8), True, 130),
        (Needs(weights=100, adapter=1, step=10, encoding=5, measuring=20, copies=8), True, 128),
    ],
)
def test_what_does_not_live_at_one_time_is_not_added_up(told: Needs, beside: bool, total: int) -> None:
    assert told.total(beside) == total


def test_what_is_advised_where_memory_is_short_takes_less(tmp_path: Path) -> None:
    saved("sd15", tmp_path)
    plain = told(tmp_path)
    assert told(tmp_path, replace(SETTINGS, batch=12)).step == pytest.approx(2 * plain.step, rel=0.1)
    assert told(tmp_path, replace(SETTINGS, accumulate=3)).step == pytest.approx(plain.step / 3, rel=0.15)
    assert told(tmp_path, replace(SETTINGS, checkpointing=True)).step < 0.7 * plain.step
    half = told(tmp_path, precision="bf16")
    assert half.step < 0.8 * plain.step
    assert half.weights < plain.weights


def test_configurations_suffice(tmp_path: Path) -> None:
    saved("flux", tmp_path)
    found = told(tmp_path)
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    assert told(tmp_path) == found


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    saved("sd15", tmp_path)
    told(tmp_path, precision="bf16")
    assert torch.get_default_dtype() == torch.float32
    assert type(torch.zeros(1)) is Tensor


def test_a_count_goes_up_and_down() -> None:
    known = torch.zeros(100)
    with counted([known]) as count:
        first = known + 1
        assert count.now == first.nbytes
        second = torch.cat([first, first])
        third = first.view(10, 10)
        assert count.now == count.most == first.nbytes + second.nbytes
        del second
        assert count.now == first.nbytes
        del first, third
        assert (count.now, count.most) == (0, 3 * known.nbytes)
