"""Adapters in a UNet through PEFT mean what they say, and leave no trace."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import conv2d

from fedcore.adapters import Adapter, Layer
from fedcore.base import BaseModel
from fedcore.errors import FedcoreError
from fedcore.injection import initial, injected, merged, read_back, target_shapes
from fedcore.seeds import generator
from tests.tiny import LATENT, dense, random_adapter
from tests.tiny import merged as merged_copy
from tests.tiny import unet as tiny_unet

LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
CONVOLUTION = "down_blocks.0.resnets.0.conv1"
SHORTCUT = "up_blocks.1.resnets.0.conv_shortcut"
UNKNOWN = "mid_block.attentions.7.to_k"

Way = Callable[[UNet2DConditionModel, Adapter | None], AbstractContextManager[list[torch.nn.Parameter] | None]]
WAYS = pytest.mark.parametrize("way", [injected, merged])


def inputs(n: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    draw = generator(0, "inputs")
    return torch.randn(n, *LATENT, generator=draw), torch.tensor([3, 700])[:n], torch.randn(n, 32, 128, generator=draw)


@torch.no_grad()
def predict(unet: UNet2DConditionModel) -> Tensor:
    out: Tensor = unet(*inputs()).sample
    return out


def state(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in unet.state_dict().items()}


def mixed_adapter(base: BaseModel) -> dict[str, Layer]:
    """Every layer, ranks 1 to 4 and scales 0.5, 1, 1.5 in turn."""
    shapes = target_shapes(base, "all")
    return {n: random_adapter({n: s}, i % 4 + 1, scale=0.5 + i % 3 / 2, size=0.05)[n] for i, (n, s) in enumerate(shapes.items())}


def test_attention_targets_are_all_four_projections_of_every_attention_block(base: BaseModel) -> None:
    """Tiny UNet: 2 down, 1 middle and 4 up transformer blocks, each with self- and cross-attention."""
    shapes = target_shapes(base, "attention")
    assert len(shapes) == (2 + 1 + 4) * 2 * 4
    assert shapes[LINEAR] == (32, 128)


def test_convolution_targets_count_their_kernels(base: BaseModel) -> None:
    shapes = target_shapes(base, "all")
    assert set(target_shapes(base, "attention")) < set(shapes)
    assert shapes[CONVOLUTION] == (16, 16 * 9)
    assert shapes[SHORTCUT] == (16, 48)
    assert all(base.denoiser.get_submodule(n).weight.numel() == out * columns for n, (out, columns) in shapes.items())


def test_a_fresh_adapter_is_bounded_as_peft_does_it_and_changes_nothing(base: BaseModel) -> None:
    shapes = target_shapes(base, "all")
    fresh = initial(shapes, rank=3, scale=0.5, seed=0)
    for name, (out, columns) in shapes.items():
        assert (fresh[name].a.shape, fresh[name].b.shape) == ((3, columns), (out, 3))
        assert 0.9 < float(fresh[name].a.abs().max()) * columns**0.5 <= 1
    with injected(base.denoiser, fresh):
        torch.testing.assert_close(predict(base.denoiser), predict(merged_copy(base.denoiser, {})), rtol=0, atol=1e-6)
    assert torch.equal(initial(shapes, rank=3, scale=0.5, seed=0)[LINEAR].a, fresh[LINEAR].a)
    assert not torch.equal(initial(shapes, rank=3, scale=0.5, seed=1)[LINEAR].a, fresh[LINEAR].a)


@pytest.mark.parametrize("name", [LINEAR, CONVOLUTION, SHORTCUT])
def test_one_adapted_layer_computes_its_base_plus_the_explicit_update(base: BaseModel, name: str) -> None:
    shapes = {name: target_shapes(base, "all")[name]}
    adapter = random_adapter(shapes, 3, "one", scale=0.7)
    layer = base.denoiser.get_submodule(name)
    x = torch.randn((5, layer.in_features) if name == LINEAR else (5, layer.in_channels, 8, 8), generator=generator(0, "x"))
    delta = dense(adapter[name]).float().view_as(layer.weight)
    added = x @ delta.T if name == LINEAR else conv2d(x, delta, stride=layer.stride, padding=layer.padding)
    want = layer(x) + added
    assert float(added.abs().max()) > 0.1
    with injected(base.denoiser, adapter):
        torch.testing.assert_close(base.denoiser.get_submodule(name)(x), want, rtol=1e-4, atol=1e-4)


@WAYS
def test_the_whole_unet_with_mixed_ranks_and_scales_equals_merged_weights(base: BaseModel, way: Way) -> None:
    adapter = mixed_adapter(base)
    plain, want = predict(base.denoiser), predict(merged_copy(base.denoiser, adapter))
    with way(base.denoiser, adapter):
        got = predict(base.denoiser)
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * float((want - plain).abs().max()))
    assert float((want - plain).abs().mean()) > 0.01


def test_what_was_injected_can_be_read_back(base: BaseModel) -> None:
    adapter = mixed_adapter(base)
    with injected(base.denoiser, adapter) as parameters:
        again = read_back(base.denoiser)
        with torch.no_grad():
            parameters[0].zero_()
    assert list(again) == sorted(adapter)
    for name, layer in adapter.items():
        assert torch.equal(again[name].a, layer.a)
        assert torch.equal(again[name].b, layer.b)
        assert again[name].scale == pytest.approx(layer.scale)


def test_only_the_factors_can_be_trained_and_they_come_in_the_order_of_names(base: BaseModel) -> None:
    adapter = mixed_adapter(base)
    with injected(base.denoiser, adapter) as parameters:
        assert sum(p.requires_grad for p in base.denoiser.parameters()) == len(parameters) == 2 * len(adapter)
        sizes = [p.numel() for p in parameters]
    assert sizes == [f.numel() for _, layer in sorted(adapter.items()) for f in (layer.a, layer.b)]


@WAYS
@pytest.mark.parametrize("index", [0, 1], ids=["left plainly", "left by an exception"])
def test_the_unet_comes_back_bit_for_bit_and_no_global_generator_moved(base: BaseModel, way: Way, index: int) -> None:
    before, prediction, modules = state(base.denoiser), predict(base.denoiser), [type(m) for m in base.denoiser.modules()]
    random = torch.get_rng_state()
    with pytest.raises(IndexError) if index else nullcontext(), way(base.denoiser, mixed_adapter(base)) as parameters:
        assert not torch.equal(predict(base.denoiser), prediction)
        for p in parameters or []:
            p.data.add_(1)
        ("the only one",)[index]
    assert torch.equal(torch.get_rng_state(), random)
    after = state(base.denoiser)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[n], before[n]) for n in before)
    assert [type(m) for m in base.denoiser.modules()] == modules
    assert torch.equal(predict(base.denoiser), prediction)
    assert not any(p.requires_grad for p in base.denoiser.parameters())


@WAYS
def test_factors_of_a_wrong_size_fail_and_leave_the_unet_clean(base: BaseModel, way: Way) -> None:
    before = state(base.denoiser)
    adapter = {**random_adapter({CONVOLUTION: (16, 144)}, 2, "right"), **random_adapter({LINEAR: (32, 64)}, 2, "wrong")}
    with pytest.raises(RuntimeError, match=r"size|shape"), way(base.denoiser, adapter):
        pass
    after = state(base.denoiser)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[n], before[n]) for n in before)


def test_a_layer_that_the_unet_does_not_have_is_not_dropped_in_silence() -> None:
    adapter = random_adapter({LINEAR: (32, 128), UNKNOWN: (32, 128)}, 2)
    with pytest.raises((ValueError, FedcoreError), match=r"attentions\.7\.to_k"), injected(tiny_unet(), adapter):
        pass


def test_an_adapter_of_another_model_fails_and_leaves_the_unet_usable() -> None:
    unet = tiny_unet()
    before, want = state(unet), predict(unet)
    with pytest.raises((ValueError, FedcoreError)), injected(unet, random_adapter({UNKNOWN: (32, 128)}, 2)):
        pass
    assert state(unet).keys() == before.keys()
    with injected(unet, initial({LINEAR: (32, 128)}, rank=2, scale=1.0, seed=0)):
        torch.testing.assert_close(predict(unet), want)


@WAYS
def test_no_adapter_means_the_plain_unet(base: BaseModel, way: Way) -> None:
    want = predict(base.denoiser)
    with way(base.denoiser, None) as parameters:
        assert not parameters
        assert torch.equal(predict(base.denoiser), want)
