"""Adapters against dense matrices: products, truncation, fitting, the file format, and everything that is refused."""

import json
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.adapters import (
    Adapter,
    Layer,
    check,
    concatenated,
    fitted,
    from_bytes,
    inner,
    layer_names,
    relative_error,
    single,
    to_bytes,
    truncated,
    with_scale,
)
from fedcore.errors import AdapterRefused
from fedcore.seeds import generator
from tests.tiny import dense, random_adapter, random_layer

SHAPES = {"block.to_q": (6, 5), "block.to_v": (4, 9)}
ranks = st.integers(1, 12)
sizes = st.integers(2, 10)
scales = st.floats(0.05, 20) | st.floats(-20, -0.05)


def close(got: torch.Tensor, want: torch.Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance * max(1.0, float(want.abs().max())))


# Products


@given(sizes, sizes, ranks, ranks, scales, scales)
def test_inner_product_equals_that_of_the_dense_updates(out: int, inputs: int, r1: int, r2: int, s1: float, s2: float) -> None:
    x, y = random_layer(out, inputs, r1, "x", scale=s1), random_layer(out, inputs, r2, "y", scale=s2)
    assert inner(x, y) == pytest.approx(float((dense(x) * dense(y)).sum()), rel=1e-10, abs=1e-9)
    assert x.energy() == pytest.approx(float(dense(x).square().sum()), rel=1e-12)


def test_an_inner_product_does_not_see_how_an_update_is_factored() -> None:
    plain = random_layer(7, 5, 3, "plain")
    g = torch.eye(3, dtype=torch.float64) * 100 + torch.randn(3, 3, generator=generator(0, "factoring")).double()
    other = Layer(torch.linalg.inv(g) @ plain.a.double(), plain.b.double() @ g)
    assert not torch.allclose(other.a, plain.a.double(), rtol=0.5)
    assert inner(plain, other) == pytest.approx(inner(plain, plain), rel=1e-10)


@given(st.lists(st.tuples(ranks, scales, scales), min_size=1, max_size=4))
def test_concatenated_factors_are_the_weighted_sum(parts: list[tuple[int, float, float]]) -> None:
    layers = [random_layer(6, 5, r, i, scale=s) for i, (r, s, _) in enumerate(parts)]
    made = concatenated(layers, [w for *_, w in parts])
    want = sum((dense(layer) * w for layer, (*_, w) in zip(layers, parts, strict=True)), torch.zeros(6, 5, dtype=torch.float64))
    assert made.rank == sum(r for r, *_ in parts)
    close(dense(made), want)


def test_relative_error_equals_the_dense_one() -> None:
    x, y = random_adapter(SHAPES, 2, "x", scale=0.5), random_adapter(SHAPES, 4, "y")
    want = {n: float((dense(x[n]) - dense(y[n])).norm() / dense(y[n]).norm()) for n in SHAPES}
    assert relative_error(x, y) == pytest.approx(want)


def test_relative_error_is_accurate_for_nearly_equal_updates_and_defined_for_zero_ones() -> None:
    ideal = {"l": random_layer(6, 5, 2, "ideal").folded()}
    assert relative_error({"l": replace(ideal["l"], scale=1 + 1e-11)}, ideal)["l"] == pytest.approx(1e-11, rel=1e-3)
    zero = {"l": Layer(torch.zeros(1, 5), torch.zeros(6, 1))}
    assert relative_error(zero, zero) == {"l": 0.0}
    assert relative_error(ideal, zero)["l"] == pytest.approx(float(dense(ideal["l"]).norm()))


# Truncation


@given(st.sampled_from([(40, 6), (6, 40), (12, 12)]), st.integers(1, 20), st.integers(1, 8), scales)
def test_truncation_is_the_best_one_of_eckart_and_young(shape: tuple[int, int], rank: int, keep: int, scale: float) -> None:
    layer = random_layer(*shape, rank, "svd", scale=scale)
    u, s, vt = np.linalg.svd(dense(layer).numpy(), full_matrices=False)
    keep = min(keep, rank)
    made = truncated(layer, keep)
    close(dense(made.layer), torch.from_numpy((u[:, :keep] * s[:keep]) @ vt[:keep]), 1e-8)
    assert made.layer.rank == min(keep, *shape)
    assert made.discarded == pytest.approx(float((s[keep:] ** 2).sum() / (s**2).sum()), abs=1e-12)


@pytest.mark.parametrize("rank", [4, 9])
def test_truncated_factors_share_the_singular_values_and_have_fixed_signs(rank: int) -> None:
    layer = random_layer(9, 7, rank, "balance")
    sigma = torch.linalg.svdvals(dense(layer))[:3]
    made = truncated(layer, 3).layer
    close(made.b.T @ made.b, torch.diag(sigma))
    close(made.a @ made.a.T, torch.diag(sigma))
    assert all(float(column[column.abs().argmax()]) > 0 for column in made.b.T)


@pytest.mark.parametrize(("energy", "rank"), [(9 / 14, 1), (0.65, 2), (13 / 14, 2), (0.93, 3), (1.0, 3)])
def test_the_energy_cut_keeps_the_least_rank_that_holds_the_share(energy: float, rank: int) -> None:
    """Singular values 3, 2, 1: cumulative shares 9/14, 13/14, 1."""
    layer = Layer(torch.eye(3, 8), torch.diag(torch.tensor([2.0, 1.0, 3.0])))
    made = truncated(layer, 3, energy=energy)
    assert made.layer.rank == rank
    assert made.discarded == pytest.approx([5 / 14, 1 / 14, 0][rank - 1])


def test_a_zero_update_truncates_to_zero_without_loss() -> None:
    made = truncated(Layer(torch.randn(4, 8, generator=generator(0)), torch.zeros(9, 4)), 2, energy=0.9)
    assert made.discarded == 0
    assert float(dense(made.layer).abs().max()) == 0


# Fitting to a client's rank and scale


@given(scales, scales)
def test_another_scale_leaves_the_update_as_it_was(before: float, after: float) -> None:
    layer = random_layer(6, 5, 3, "scale", scale=before).folded()
    made = with_scale(replace(layer, scale=before), after)
    assert made.scale == after
    close(dense(made), before * dense(layer))


@given(st.integers(1, 8), st.integers(1, 8), scales, st.floats(0.1, 4))
def test_fitting_gives_the_best_update_at_exactly_that_rank_and_scale(have: int, want: int, scale: float, new: float) -> None:
    adapter = random_adapter(SHAPES, have, "fit", scale=scale)
    made, lost = fitted(adapter, want, new, seed=0)
    tail = total = 0.0
    for name, (out, inputs) in SHAPES.items():
        u, s, vt = np.linalg.svd(dense(adapter[name]).numpy(), full_matrices=False)
        assert (made[name].a.shape, made[name].b.shape, made[name].scale) == ((want, inputs), (out, want), new)
        assert made[name].a.dtype == made[name].b.dtype == torch.float32
        close(dense(made[name]), torch.from_numpy((u[:, :want] * s[:want]) @ vt[:want]), 3e-6)
        tail, total = tail + float((s[want:] ** 2).sum()), total + float((s**2).sum())
    assert lost == pytest.approx(tail / total, abs=1e-9)


@pytest.mark.parametrize("have", [2, 4, 6])
@pytest.mark.parametrize("silent", [False, True])
def test_the_whole_rank_can_be_trained_afterwards(have: int, silent: bool) -> None:
    """A component with zeros in both factors has no gradient; whatever comes in, none is left, and the update is the same."""
    adapter = random_adapter(SHAPES, have, "alive")
    if silent:
        adapter = {name: Layer(layer.a, torch.zeros_like(layer.b), 1.0) for name, layer in adapter.items()}
    made, _ = fitted(adapter, 4, 0.5, seed=0)
    for name, layer in made.items():
        assert ((layer.a != 0).any(dim=1) | (layer.b != 0).any(dim=0)).all()
        want = truncated(adapter[name], 4).layer
        close(dense(layer), dense(want), 3e-6)
    assert to_bytes(made) == to_bytes(fitted(adapter, 4, 0.5, seed=0)[0])


def test_only_rescaling_keeps_a_fresh_adapter_s_rows() -> None:
    """An alpha that is no multiple of the rank: float32 holds the scale inexactly, and truncating zeros would leave zeros."""
    fresh = {name: Layer(layer.a, torch.zeros_like(layer.b), 0.1) for name, layer in random_adapter(SHAPES, 4, "fresh").items()}
    made, lost = fitted(from_bytes(to_bytes(fresh)), 4, 0.1, seed=0)
    assert lost == 0
    for name, layer in made.items():
        close(layer.a, fresh[name].a, 1e-6)


# The file


def test_a_file_gives_back_the_same_numbers_and_the_same_bytes_whatever_the_order() -> None:
    adapter = random_adapter(SHAPES, 3, "file", scale=0.25)
    blob = to_bytes(adapter)
    again = from_bytes(blob)
    assert again.keys() == adapter.keys()
    for name, layer in adapter.items():
        assert torch.equal(again[name].a, layer.a)
        assert torch.equal(again[name].b, layer.b)
        assert again[name].scale == 0.25
    assert to_bytes(dict(reversed(adapter.items()))) == blob == to_bytes(again)


def test_a_file_is_plain_safetensors_in_float32() -> None:
    adapter = random_adapter(SHAPES, 3, "file")
    stored = safetensors.numpy.load(to_bytes({name: layer.folded() for name, layer in adapter.items()}))
    assert set(stored) == {f"{name}.{part}" for name in SHAPES for part in ("lora_A", "lora_B", "scale")}
    assert {str(tensor.dtype) for tensor in stored.values()} == {"float32"}
    np.testing.assert_array_equal(stored["block.to_q.lora_B"], adapter["block.to_q"].b.numpy())


def test_in_half_precision_values_are_rounded_once_and_take_half_the_bytes() -> None:
    adapter = random_adapter(SHAPES, 16, "file", scale=0.25)
    whole, half = to_bytes(adapter), to_bytes(adapter, transport="fp16")
    assert 0.5 < len(half) / len(whole) < 0.7
    again = from_bytes(half, transport="fp16")
    for name, layer in adapter.items():
        np.testing.assert_array_equal(again[name].a.numpy(), layer.a.numpy().astype(np.float16).astype(np.float32))
        np.testing.assert_array_equal(again[name].b.numpy(), layer.b.numpy().astype(np.float16).astype(np.float32))
        assert again[name].scale == 0.25
    assert to_bytes(again, transport="fp16") == half
    with pytest.raises(AdapterRefused, match=r"'block.to_q' travels as torch.float16, not as torch.float32"):
        from_bytes(half, transport="fp32")


def test_single_precision_layers_are_contiguous_for_sending() -> None:
    layer = single(Layer(torch.ones(5, 2).double().T, torch.ones(6, 2).double(), 0.5))
    assert (layer.a.dtype, layer.b.dtype, layer.scale) == (torch.float32, torch.float32, 0.5)
    assert layer.a.is_contiguous()


def raw(**entries: tuple[str, list[int], bytes]) -> bytes:
    """A safetensors file written by hand: dtype, shape and bytes by name (`__` for a dot)."""
    header, data = {}, b""
    for name, (dtype, shape, content) in entries.items():
        header[name.replace("__", ".")] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


A, B, SCALE = ("F32", [2, 3], bytes(24)), ("F32", [4, 2], bytes(32)), ("F32", [], bytes(4))


def test_the_hand_written_file_is_a_good_one_when_nothing_is_wrong_with_it() -> None:
    layer = from_bytes(raw(net__lora_A=A, net__lora_B=B, net__scale=SCALE))["net"]
    check({"net": layer}, {"net": Layer(torch.zeros(2, 3), torch.zeros(4, 2), layer.scale)})


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (pickle.dumps({"net.lora_A": [0.0]}), "not a safetensors file"),
        (raw(net__lora_A=A, net__lora_B=B, net__scale=SCALE)[:-5], "not a safetensors file"),
        (b"", "not a safetensors file"),
        (raw(net__lora_A=A, net__scale=SCALE), "layer 'net' lacks lora_B"),
        (raw(net__lora_A=A), "layer 'net' lacks lora_B, scale"),
        (raw(net__lora_A=A, net__lora_B=B, net__scale=SCALE, net__bias=SCALE), "no part of an adapter: 'net.bias'"),
        (raw(net__lora_A=A, net__lora_B=("F32", [2, 4], bytes(32)), net__scale=SCALE), r"'net' .*\(2, 3\) and \(2, 4\) that"),
        (raw(net__lora_A=("F32", [2, 3, 1], bytes(24)), net__lora_B=B, net__scale=SCALE), r"'net' .*\(2, 3, 1\)"),
        (raw(net__lora_A=A, net__lora_B=B, net__scale=("F32", [1], bytes(4))), "layer 'net'"),
        (raw(net__lora_A=A, net__lora_B=B, net__scale=("C64", [], struct.pack("<ff", 1, 1))), "layer 'net'"),
        (raw(net__lora_A=("F8_E8M0", [2, 3], bytes(6)), net__lora_B=B, net__scale=SCALE), "F8_E8M0|'net'"),
        (raw(**{"ne\x1b[31mt" + 200 * "x" + "__lora_A": A}), r"layer 'ne\?\[31mtx{70,}' lacks"),
    ],
    ids=["pickle", "truncated", "empty", "no B", "A only", "extra", "shapes", "3-D", "scale 1-D", "complex scale", "odd dtype", "control"],
)
def test_a_file_that_is_no_adapter_is_refused(blob: bytes, message: str) -> None:
    with pytest.raises(AdapterRefused, match=message):
        from_bytes(blob)


@given(st.binary(max_size=64))
def test_rubbish_is_refused_and_nothing_else_happens(blob: bytes) -> None:
    with pytest.raises(AdapterRefused):
        from_bytes(blob)


# What a client may send


def good() -> dict[str, Layer]:
    return random_adapter(SHAPES, 3, "sent")


def changed(name: str, **values: object) -> Adapter:
    adapter = good()
    return {**adapter, name: replace(adapter[name], **values)}  # type: ignore[arg-type]


def spoilt(value: float) -> torch.Tensor:
    b = good()["block.to_v"].b.clone()
    b[1, 2] = value
    return b


def test_a_good_adapter_passes_the_check() -> None:
    check(good(), good())


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"block.to_q": good()["block.to_q"]}, "'block.to_v' is missing"),
        ({**good(), "block.to_z": good()["block.to_q"]}, "'block.to_z' is not one of the 2 adapted layers"),
        (changed("block.to_q", a=good()["block.to_q"].a.half()), "'block.to_q' is torch.float16/torch.float32, not float32"),
        (changed("block.to_v", b=good()["block.to_v"].b.double()), "'block.to_v' is torch.float32/torch.float64, not float32"),
        (changed("block.to_q", a=torch.zeros(3, 4)), r"'block.to_q' has factors \(6, 3\)·\(3, 4\), expected \(6, 3\)·\(3, 5\)"),
        (changed("block.to_q", b=torch.zeros(7, 3)), r"'block.to_q' has factors \(7, 3\)"),
        (random_adapter(SHAPES, 4, "rank"), r"'block.to_q' has factors \(6, 4\)·\(4, 5\), expected \(6, 3\)"),
        (changed("block.to_v", b=spoilt(float("nan"))), "'block.to_v' holds values that are not finite"),
        (changed("block.to_v", b=spoilt(float("inf"))), "'block.to_v' holds values that are not finite"),
        (changed("block.to_q", scale=float("inf")), "'block.to_q' has the scale inf, which is not finite"),
        (changed("block.to_q", scale=float("nan")), "'block.to_q' has the scale nan, which is not finite"),
        (changed("block.to_v", scale=3.0), "'block.to_v' has scale 3, was sent with 1"),
        (changed("block.to_v", b=spoilt(1e6)), "'block.to_v' has an update of norm .*e.06, above the limit 1e.04"),
        (changed("block.to_v", b=spoilt(3e38)), "'block.to_v' has an update of norm"),
    ],
    ids=[
        "missing",
        "extra",
        "half",
        "double",
        "in",
        "out",
        "rank",
        "nan",
        "inf",
        "inf scale",
        "nan scale",
        "scale",
        "huge",
        "as huge as can be",
    ],
)
def test_an_adapter_that_is_not_what_was_asked_for_is_refused_by_the_name_of_its_layer(adapter: Adapter, message: str) -> None:
    with pytest.raises(AdapterRefused, match=message):
        check(adapter, good())


def test_the_norm_limit_is_on_the_update_and_not_on_its_factors() -> None:
    layer = good()["block.to_q"]
    check({**good(), "block.to_q": Layer(layer.a * 1e6, layer.b / 1e6)}, good())


def test_layer_names_are_sorted_and_must_agree() -> None:
    assert layer_names([good(), dict(reversed(good().items()))]) == ["block.to_q", "block.to_v"]
    with pytest.raises(AdapterRefused, match=r"'block\.to_v' is not in all of them"):
        layer_names([good(), {"block.to_q": good()["block.to_q"]}])
