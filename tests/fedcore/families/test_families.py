"""Every family, in the real classes: prompts, pictures and latents are those of diffusers' own pipeline; an adapter learns."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from data.base.load import forget_base, load_base
from fedcore.base import BaseModel
from fedcore.course import Course
from fedcore.evaluation import heldout_losses
from fedcore.generation import generate
from fedcore.injection import initial, target_shapes
from fedcore.latents import decode, picture_size, posterior
from fedcore.prompts import encode, nothing, requirement
from fedcore.sampling import alone
from fedcore.seeds import generator
from fedcore.training import Examples, Settings, train
from tests.families import FAMILIES, PIXELS, saved
from tests.tiny import merged, random_adapter

PROMPTS = ["a cat", "a red house in soft pastel colours"]
SEEDS = (11, 12)
SETTINGS = Settings(steps=40, batch=4, lr=1e-2, min_snr=5.0, caption_dropout=0.1, clip_norm=1.0, weight_decay=0.0)


@dataclass(frozen=True)
class Both:
    """The same folder, opened by diffusers and by us."""

    name: str
    folder: str
    pipeline: DiffusionPipeline
    base: BaseModel


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("family")
    yield Both(request.param, str(folder), saved(request.param, folder), load_base(str(folder)))
    forget_base()


@torch.no_grad()
def encoded(both: Both, texts: list[str]) -> tuple[Tensor, Tensor | None]:
    """By the pipeline's own method, without gradients as it draws: with them, other kernels round otherwise. Tokens, and pooled if any."""
    found: Any = both.pipeline.encode_prompt(
        texts, **({"prompt_2": None} if both.name[:2] != "sd" or "3" in both.name else {}),
        **({"prompt_3": None} if "sd3" in both.name else {}),
        **({} if "flux" in both.name else {"do_classifier_free_guidance": False}),
        device="cpu", num_images_per_prompt=1,
    )  # fmt: skip
    if both.name in ("sd15", "sd2"):
        return found[0], None
    return found[0], found[1] if "flux" in both.name else found[2]


def test_prompts_are_encoded_as_the_pipeline_does_it(both: Both) -> None:
    tokens, pooled = encoded(both, PROMPTS)
    prompts = encode(both.base, PROMPTS).prompts
    torch.testing.assert_close(prompts.tokens, tokens, rtol=1e-4, atol=1e-4)
    assert (prompts.pooled is None) == (pooled is None)
    if pooled is not None:
        torch.testing.assert_close(prompts.pooled, pooled)


def test_a_wish_is_a_unit_vector_of_sixteen_numbers_that_tells_statements_apart(both: Both) -> None:
    one, other = (requirement(both.base, statement, ["a cat"]) for statement in ("black line art", "soft pastel colours"))
    assert one.shape == (16,)
    assert float(one.norm()) == pytest.approx(1)
    assert float(one @ other) < 0.99


def adapter(base: BaseModel, size: float = 0.3) -> Any:
    return random_adapter(target_shapes(base, "attention"), 2, "families", size=size)


def drawn(both: Both, guidance: float, adapter: Any) -> Tensor:
    """By the pipeline, with dense updates in its weights, from the noise that we would begin with."""
    base = both.base
    shape = base.family.shape(base, None)
    noise = torch.stack([torch.randn(shape, generator=generator(seed, "picture")) for seed in SEEDS])
    if "flux" in both.name:
        n, c, h, w = noise.shape
        noise = both.pipeline._pack_latents(noise, n, c, h, w)
    part = base.family.denoiser
    own = getattr(both.pipeline, part)
    setattr(both.pipeline, part, merged(own, adapter) if adapter else own)
    try:
        made = both.pipeline(
            PROMPTS, latents=noise, num_inference_steps=4, guidance_scale=guidance, height=PIXELS, width=PIXELS, output_type="np"
        ).images
    finally:
        setattr(both.pipeline, part, own)
    return torch.from_numpy(made * 255).permute(0, 3, 1, 2).round()


@pytest.mark.parametrize("with_adapter", [False, True])
def test_pictures_are_those_of_the_pipeline(both: Both, with_adapter: bool) -> None:
    mine = adapter(both.base) if with_adapter else None
    got = generate(both.base, Course(4, 3.0), encode(both.base, PROMPTS).prompts, alone(mine), seeds=SEEDS)
    assert got.shape == (2, 3, PIXELS, PIXELS)
    assert float((got - drawn(both, 3.0, mine)).abs().max()) <= 1
    assert float((got - drawn(both, 3.0, None if with_adapter else adapter(both.base))).abs().max()) > 3


def test_guidance_counts_where_the_model_has_it(both: Both) -> None:
    prompts = encode(both.base, PROMPTS).prompts
    one, other = (generate(both.base, Course(3, g), prompts, alone(None), seeds=SEEDS) for g in (1.0, 6.0))
    assert torch.equal(one, other) == (both.name == "flux-schnell")


@torch.no_grad()
def test_latents_are_scaled_and_shifted_as_the_pipeline_decodes_them(both: Both) -> None:
    base = both.base
    assert picture_size(base) == PIXELS
    pixels = torch.rand(2, 3, PIXELS, PIXELS, generator=generator(0, "pixels")) * 2 - 1
    mean, log_variance = posterior(base, pixels)
    found = base.vae.encode(pixels).latent_dist
    torch.testing.assert_close(mean / 0.5 + (base.vae.config.shift_factor or 0), found.mean)
    torch.testing.assert_close(torch.exp(0.5 * log_variance), found.std * 0.5)
    want = ((base.vae.decode(found.mean).sample.clamp(-1, 1) + 1) * 127.5).round()
    assert float((decode(base, mean) - want).abs().max()) <= 1


def examples(base: BaseModel) -> Examples:
    mean = torch.randn(4, *base.family.shape(base, None), generator=generator(0, "examples"))
    return Examples(mean, torch.full_like(mean, -6.0), encode(base, [*PROMPTS, "pizza", "a dog"]).prompts)


@pytest.mark.parametrize("target", ["attention", "all"])
def test_the_loss_falls_on_a_fixed_batch(both: Both, target: Any) -> None:
    shapes, rows = target_shapes(both.base, target), examples(both.base)
    start = initial(shapes, rank=4, scale=1.0, seed=0)
    made = train(both.base, rows, start, SETTINGS, seed=0)
    before, after = (float(heldout_losses(both.base, rows, a, timesteps=4, seed=0).mean()) for a in (start, made.adapter))
    assert after < 0.97 * before
    assert set(made.adapter) == set(shapes)


@pytest.mark.parametrize("settings", [{"accumulate": 3}, {"checkpointing": True}], ids=["accumulate", "checkpointing"])
def test_what_saves_memory_changes_nothing_but_rounding(both: Both, settings: dict[str, Any]) -> None:
    start, rows, few = (
        initial(target_shapes(both.base, "attention"), rank=2, scale=1.0, seed=0),
        examples(both.base),
        replace(SETTINGS, steps=4),
    )
    plain, saving = (train(both.base, rows, start, how, seed=0) for how in (few, replace(few, **settings)))
    assert saving.losses == pytest.approx(plain.losses, rel=1e-3)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in both.base.denoiser.modules())


def test_the_loss_falls_in_half_precision_too(both: Both) -> None:
    """Adapters stay float32, and what they learnt helps the model in float32."""
    half = load_base(both.folder, "bf16", "cpu")
    assert (half.dtype, half.vae.dtype) == (torch.bfloat16, torch.float32)
    rows, start = examples(half), initial(target_shapes(half, "attention"), rank=4, scale=1.0, seed=0)
    made = train(half, rows, start, SETTINGS, seed=0).adapter
    assert {x.dtype for layer in made.values() for x in (layer.a, layer.b)} == {torch.float32}
    for base in (half, both.base):
        before, after = (float(heldout_losses(base, rows, a, timesteps=4, seed=0).mean()) for a in (start, made))
        assert after < 0.98 * before


def test_what_stands_for_no_prompt_is_what_the_pipeline_takes(both: Both) -> None:
    empty = nothing(both.base)
    assert len(empty) == 1
    if both.name == "sdxl":
        assert not empty.tokens.any()
    else:
        torch.testing.assert_close(empty.tokens, encoded(both, [""])[0])


def test_all_layers_are_more_than_attention_s(both: Both) -> None:
    few, all_of_them = (target_shapes(both.base, target) for target in ("attention", "all"))  # type: ignore[arg-type]
    assert set(few) < set(all_of_them)
    for name, (rows, columns) in all_of_them.items():
        assert both.base.denoiser.get_submodule(name).weight.numel() == rows * columns


def test_rows_keep_tokens_and_pooled_together(both: Both) -> None:
    rows = examples(both.base)
    some = rows.rows(torch.tensor([2, 0]))
    torch.testing.assert_close(some.prompts.tokens[0], rows.prompts.tokens[2])
    if rows.prompts.pooled is not None and some.prompts.pooled is not None:
        torch.testing.assert_close(some.prompts.pooled[1], rows.prompts.pooled[0])
    assert replace(rows, prompts=rows.prompts.rows(slice(0, 1))).prompts.tokens.shape[0] == 1
