"""Pictures equal those of diffusers' own pipeline, each on its own."""

import torch

from fedcore.adapters import Adapter
from fedcore.base import BaseModel
from fedcore.course import Course
from fedcore.generation import generate
from fedcore.injection import injected, target_shapes
from fedcore.latents import decode
from fedcore.prompts import encode
from fedcore.sampling import alone
from fedcore.seeds import generator
from tests.tiny import LATENT, PIXELS, merged, pipeline, random_adapter

SEEDS = (11, 12, 13)
PROMPTS = ("a cat", "a red house", "pizza")


def adapter(base: BaseModel) -> Adapter:
    return random_adapter(target_shapes(base, "attention"), 2, "generation", scale=0.5, size=0.1)


def pictures(base: BaseModel, adapter: Adapter | None, rows: list[int], batch: int = 16) -> torch.Tensor:
    prompts = encode(base, PROMPTS).prompts.rows(torch.tensor(rows))
    return generate(base, Course(5, 3.0), prompts, alone(adapter), seeds=[SEEDS[i] for i in rows], batch=batch)


def test_pictures_are_those_of_the_stable_diffusion_pipeline(base: BaseModel) -> None:
    pipe = pipeline(base)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet = merged(base.denoiser, adapter(base))
    made = pipe(
        prompt_embeds=encode(base, PROMPTS).prompts.tokens,
        negative_prompt_embeds=encode(base, [""] * 3).prompts.tokens,
        latents=torch.stack([torch.randn(*LATENT, generator=generator(s, "picture")) for s in SEEDS]),
        num_inference_steps=5,
        guidance_scale=3.0,
        output_type="np",
    ).images
    want = torch.from_numpy(made * 255).permute(0, 3, 1, 2).round()
    got = pictures(base, adapter(base), [0, 1, 2])
    assert (got.shape, got.dtype) == ((3, 3, PIXELS, PIXELS), torch.uint8)
    assert float((got - want).abs().max()) <= 1
    assert float((pictures(base, None, [0, 1, 2]) - want).abs().max()) > 5


def test_a_picture_does_not_depend_on_the_others_beyond_rounding(base: BaseModel) -> None:
    together = pictures(base, None, [0, 1, 2]).int()
    assert int((pictures(base, None, [2, 1, 0]).int().flip(0) - together).abs().max()) <= 1
    assert int((pictures(base, None, [1]).int() - together[1:2]).abs().max()) <= 1
    assert int((pictures(base, None, [0, 1, 2], batch=2).int() - together).abs().max()) <= 1
    assert int((together[0] - together[1]).abs().max()) > 5


def test_progress_counts_every_step_of_every_batch(base: BaseModel) -> None:
    told: list[tuple[int, int]] = []
    prompts = encode(base, PROMPTS).prompts
    generate(base, Course(2, 1.0), prompts, alone(None), seeds=SEEDS, batch=2, on_step=lambda done, of: told.append((done, of)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_base_is_plain_again_after_generation(base: BaseModel) -> None:
    before = {name: tensor.clone() for name, tensor in base.denoiser.state_dict().items()}
    pictures(base, adapter(base), [0])
    after = base.denoiser.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    with injected(base.denoiser, None):
        assert not base.denoiser.training


@torch.no_grad()
def test_decoding_undoes_the_scaling_and_maps_minus_one_to_black_and_one_to_white(base: BaseModel) -> None:
    latents = torch.randn(2, *LATENT, generator=generator(0, "decode"))
    plain = base.vae.decode(latents / 0.5).sample
    want = ((plain + 1) / 2).clamp(0, 1) * 255
    assert float((decode(base, latents) - want).abs().max()) <= 0.501
    assert {0, 255} <= set(decode(base, latents * 1000).flatten().tolist())
