"""Local training: published weights and targets, and an adapter that learns, repeatably and alone."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from fedcore.adapters import Adapter, Layer, to_bytes
from fedcore.aggregation import Trains
from fedcore.base import BaseModel, Conditioning
from fedcore.errors import TooLarge
from fedcore.injection import initial, target_shapes
from fedcore.seeds import generator, isolated
from fedcore.training import Examples, Settings, State, Trained, batches, train
from tests.tiny import LATENT, dense, merged, random_adapter

SETTINGS = Settings(steps=6, batch=4, lr=1e-2, min_snr=5.0, caption_dropout=0.0, clip_norm=1.0, weight_decay=0.0)


def examples(n: int = 4) -> Examples:
    draw = generator(0, "examples")
    mean = torch.randn(n, *LATENT, generator=draw)
    return Examples(mean, torch.full_like(mean, -6.0), Conditioning(torch.randn(n, 32, 128, generator=draw)))


def run(base: BaseModel, settings: Settings = SETTINGS, rows: Examples | None = None, seed: int = 0) -> Trained:
    start = initial(target_shapes(base, "attention"), rank=2, scale=1.0, seed=0)
    return train(base, rows or examples(), start, settings, seed=seed)


def norm(trained: Trained) -> float:
    return float(sum(dense(layer).square().sum() for layer in trained.adapter.values())) ** 0.5


# The order of pictures


@given(st.integers(1, 9), st.integers(1, 8), st.integers(1, 12), st.integers(0, 5))
def test_every_picture_is_drawn_equally_often(rows: int, batch: int, steps: int, seed: int) -> None:
    plan = batches(rows, batch, steps, seed)
    assert plan.shape == (steps, batch)
    counts = torch.bincount(plan.flatten(), minlength=rows)
    assert len(counts) == rows
    assert int(counts.max() - counts.min()) <= 1
    assert all(sorted(epoch.tolist()) == list(range(rows)) for epoch in plan.flatten().split(rows) if len(epoch) == rows)


def test_every_epoch_has_another_order() -> None:
    assert len({tuple(epoch.tolist()) for epoch in batches(8, 8, 5, 0)}) == 5


def test_rows_pick_all_parts_of_the_same_pictures() -> None:
    everything, index = examples(), torch.tensor([2, 0])
    some = everything.rows(index)
    assert len(some) == 2
    for field in ("mean", "log_variance"):
        assert torch.equal(getattr(some, field)[0], getattr(everything, field)[2])
    assert torch.equal(some.prompts.tokens[0], everything.prompts.tokens[2])


# Training itself


def test_the_loss_falls_on_a_fixed_batch(base: BaseModel) -> None:
    losses = run(base, replace(SETTINGS, steps=60)).losses
    assert len(losses) == 60
    assert sum(losses[-15:]) < 0.9 * sum(losses[:15])


def test_training_twice_gives_the_same_bits_whatever_the_global_generator_holds(base: BaseModel) -> None:
    first = run(base)
    with isolated(1, "another global state"):
        before = torch.get_rng_state()
        second = run(base)
        assert torch.equal(torch.get_rng_state(), before)
    assert to_bytes(first.adapter) == to_bytes(second.adapter)
    assert first.losses == second.losses
    assert to_bytes(run(base, seed=1).adapter) != to_bytes(first.adapter)


def test_the_base_stays_as_it_was(base: BaseModel) -> None:
    before = {name: tensor.clone() for name, tensor in base.denoiser.state_dict().items()}
    assert norm(run(base)) > 0
    after = base.denoiser.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not base.denoiser.training


def test_adam_moves_every_factor_by_the_learning_rate_in_the_only_step(base: BaseModel) -> None:
    """Adam's first step is lr · g / (|g| + ε): a full lr wherever |g| is far above ε = 1e-8. B starts at zero."""
    made = run(base, replace(SETTINGS, steps=1, lr=3e-3)).adapter
    moved = torch.cat([layer.b.abs().flatten() for layer in made.values()])
    assert float(moved.max()) <= 3e-3 * 1.0001
    assert float(moved.median()) == pytest.approx(3e-3, rel=1e-2)


def test_the_learning_rate_warms_up_over_a_tenth_of_the_steps(base: BaseModel) -> None:
    """Twenty steps: the first one goes at lr / 2, so it moves B by that."""
    first: list[Tensor] = []

    def watch(state: State) -> None:
        if len(state["losses"]) == 1:
            first.extend(p.detach().abs().flatten() for n, p in base.denoiser.named_parameters() if "lora_B" in n)

    start = initial(target_shapes(base, "attention"), rank=2, scale=1.0, seed=0)
    train(base, examples(), start, replace(SETTINGS, steps=20, lr=1e-3), seed=0, save_every=1, save=watch)
    assert float(torch.cat(first).median()) == pytest.approx(0.5e-3, rel=1e-2)


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_training_continued_from_any_step_ends_with_the_same_bits(base: BaseModel, cut: int) -> None:
    """Seven steps of which the last one belongs to another epoch than the first; with weight decay, and saved as bytes in between."""
    settings, start = (
        replace(SETTINGS, steps=7, weight_decay=0.1),
        initial(target_shapes(base, "attention"), rank=2, scale=1.0, seed=0),
    )
    states: dict[int, bytes] = {}

    def keep(state: State) -> None:
        states[len(state["losses"])] = save(state)

    whole = train(base, examples(), start, settings, seed=0, save_every=1, save=keep)
    assert sorted(states) == list(range(1, 8))
    again = train(base, examples(), start, settings, seed=0, state=load(states[cut]))
    assert again.losses == whole.losses
    assert to_bytes(again.adapter) == to_bytes(whole.adapter)


def test_clipping_clips(base: BaseModel) -> None:
    """Gradients of norm 1e-10 move no entry by more than lr · 1e-10 / 1e-8 a step (Adam's ε); unclipped ones move it by lr."""
    clipped = run(base, replace(SETTINGS, steps=3, clip_norm=1e-10)).adapter
    free = run(base, replace(SETTINGS, steps=3, clip_norm=1e10)).adapter
    bound = 3 * SETTINGS.lr * 1e-2
    assert 0 < max(float(layer.b.abs().max()) for layer in clipped.values()) <= bound
    assert max(float(layer.b.abs().max()) for layer in free.values()) > 10 * bound


def test_with_full_caption_dropout_prompts_do_not_matter(base: BaseModel) -> None:
    rows = examples()
    others = replace(rows, prompts=Conditioning(rows.prompts.tokens.flip(0) * 3))
    silent = replace(SETTINGS, caption_dropout=1.0)
    assert to_bytes(run(base, silent).adapter) == to_bytes(run(base, silent, others).adapter)
    assert to_bytes(run(base).adapter) != to_bytes(run(base, rows=others).adapter)


def test_the_posterior_is_resampled_with_its_own_spread(base: BaseModel) -> None:
    """With no spread the log-variance falls out; with spread it counts."""
    rows = examples()
    frozen, narrower = (replace(rows, log_variance=torch.full_like(rows.mean, v)) for v in (-200.0, -300.0))
    wide = replace(rows, log_variance=torch.zeros_like(rows.mean))
    assert run(base, rows=frozen).losses == run(base, rows=narrower).losses
    assert run(base, rows=wide).losses != run(base, rows=frozen).losses


# What moves, what stands beside it, what it is pulled to


def begun(base: BaseModel, seed: int = 0, size: float = 0.02) -> dict[str, Layer]:
    shapes = target_shapes(base, "attention")
    return random_adapter(shapes, 2, "begun", seed, size=size)


@pytest.mark.parametrize(("trains", "still"), [("a", "b"), ("b", "a")])
def test_a_factor_that_is_not_trained_keeps_its_bits(base: BaseModel, trains: Trains, still: str) -> None:
    start = begun(base)
    made = train(base, examples(), start, SETTINGS, seed=0, trains=trains).adapter
    for name, layer in start.items():
        assert torch.equal(getattr(made[name], still), getattr(layer, still))
        assert not torch.equal(getattr(made[name], trains), getattr(layer, trains))


def test_training_beside_a_frozen_adapter_is_training_on_a_base_that_contains_it(base: BaseModel) -> None:
    start, frozen, before = begun(base), begun(base, 1), deepcopy(base.denoiser.state_dict())
    made = train(base, examples(), start, SETTINGS, seed=0, beside=frozen)
    other = merged(base.denoiser, frozen)
    want = train(replace(base, denoiser=other), examples(), start, SETTINGS, seed=0)
    assert made.losses == pytest.approx(want.losses, rel=1e-4)
    for name, layer in want.adapter.items():
        torch.testing.assert_close(dense(made.adapter[name]), dense(layer), rtol=1e-3, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in base.denoiser.state_dict().items())


@pytest.mark.parametrize("trains", ["ab", "b"])
def test_the_proximal_gradient_is_that_of_half_the_squared_distance_of_the_updates(base: BaseModel, trains: Trains) -> None:
    """At the rate at which AdamW's first step is the sign of the gradient, an overwhelming μ follows autograd's on dense updates."""
    start, anchor = begun(base), begun(base, 1)
    settings = replace(SETTINGS, steps=1, prox=1e6, clip_norm=1e12)
    made = train(base, examples(), start, settings, seed=0, anchor=anchor, trains=trains).adapter
    for name, layer in start.items():
        a, b = (factor.double().requires_grad_() for factor in (layer.a, layer.b))
        (0.5 * (layer.scale * b @ a - dense(anchor[name])).square().sum()).backward()
        for factor, exact in (("a", a), ("b", b)):
            moved = getattr(made[name], factor) - getattr(layer, factor)
            assert exact.grad is not None
            clear = exact.grad.abs() > 1e-3 * exact.grad.abs().max()
            want = -settings.lr * torch.sign(exact.grad).float() if factor in trains else torch.zeros_like(moved)
            torch.testing.assert_close(moved[clear], want[clear], rtol=1e-2, atol=1e-6)


def test_there_is_no_pull_where_the_same_update_is_only_factored_otherwise(base: BaseModel) -> None:
    start = begun(base)
    turn = torch.linalg.qr(torch.randn(2, 2, generator=generator(0, "turn"))).Q
    anchor = {name: Layer(turn @ layer.a, layer.b @ turn.T, layer.scale) for name, layer in start.items()}
    settings = replace(SETTINGS, steps=1, prox=1.0, clip_norm=1e12)
    plain = train(base, examples(), start, replace(settings, prox=0.0), seed=0).adapter
    pulled = train(base, examples(), start, settings, seed=0, anchor=anchor).adapter
    apart = train(base, examples(), start, settings, seed=0, anchor=begun(base, 1)).adapter

    def distance(x: Adapter, y: Adapter) -> float:
        return sum(float((dense(x[n]) - dense(y[n])).norm()) for n in x)

    assert distance(pulled, plain) < 0.2 * distance(apart, plain)


def test_prox_keeps_training_near_its_start_and_zero_changes_nothing(base: BaseModel) -> None:
    start = begun(base)

    def trained(prox: float) -> Adapter:
        return train(base, examples(), start, replace(SETTINGS, prox=prox, clip_norm=1e12), seed=0).adapter

    def distance(prox: float) -> float:
        made = trained(prox)
        return sum(float((dense(made[n]) - dense(x)).square().sum()) for n, x in start.items())

    assert to_bytes(trained(0.0)) == to_bytes(train(base, examples(), start, replace(SETTINGS, clip_norm=1e12), seed=0).adapter)
    assert distance(1000.0) < 0.5 * distance(0.0)


@pytest.mark.parametrize("trains", ["ab", "b"])
def test_an_interrupted_training_of_any_kind_ends_with_the_same_bits(base: BaseModel, trains: Trains) -> None:
    kept: list[State] = []
    settings = replace(SETTINGS, prox=0.1)
    options = {"seed": 0, "trains": trains, "beside": begun(base, 1), "anchor": begun(base, 2)}
    whole = train(base, examples(), begun(base), settings, **options, save_every=3, save=kept.append)  # type: ignore[arg-type]
    again = train(base, examples(), begun(base), settings, **options, state=load(save(kept[0])))  # type: ignore[arg-type]
    assert to_bytes(again.adapter) == to_bytes(whole.adapter)
    assert again.losses == whole.losses


def test_too_little_memory_is_told_in_one_line_with_what_to_lower(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB")

    monkeypatch.setattr(BaseModel, "predict", full)
    with pytest.raises(TooLarge, match=r"^the device's memory does not suffice; lower training.batch, .* \(CUDA out of memory\)$"):
        run(base)
    assert not base.denoiser.training


def test_losses_in_fp16_are_scaled_so_that_small_gradients_survive(base: BaseModel) -> None:
    """Adam's first step is lr wherever the gradient is not nought, however small."""
    half = replace(base, denoiser=deepcopy(base.denoiser).half())
    moved = torch.cat([layer.b.abs().flatten() for layer in run(half, replace(SETTINGS, steps=1, lr=3e-3, clip_norm=1e9)).adapter.values()])
    assert float(moved.median()) == pytest.approx(3e-3, rel=1e-2)
    assert bool(torch.isfinite(moved).all())
