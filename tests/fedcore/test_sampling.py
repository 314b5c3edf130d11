"""Sampling may stop anywhere: halves give the bits of one go, for every scheduler; and what it gives is what diffusers' pipeline gives."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from safetensors.torch import load, save
from torch import Tensor

from data.base.load import load_base
from fedcore.adapters import Adapter
from fedcore.base import SAMPLER, BaseModel, Conditioning
from fedcore.composition import COMPOSITIONS, STRETCH, composite, switch, weighted_sum
from fedcore.course import Course
from fedcore.errors import InputError
from fedcore.injection import target_shapes
from fedcore.prompts import encode
from fedcore.sampling import State, advance, alone, begin, insist_on_course, insist_on_finite, length
from fedcore.schedulers import DIFFUSION, FLOW, scheduler
from fedcore.seeds import generator
from tests.families import saved
from tests.tiny import LATENT, merged, pipeline, random_adapter

PROMPTS, SEEDS = ("a cat", "a red house", "pizza"), (11, 12, 13)
OTHERS = {
    "euler": EulerDiscreteScheduler,
    "dpm++": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "pndm": PNDMScheduler,
    "heun": HeunDiscreteScheduler,
    "lms": LMSDiscreteScheduler,
}
NAMED = [("sd", name) for name in DIFFUSION] + [("flux", name) for name in FLOW]


@pytest.fixture(scope="module")
def bases(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseModel]:
    """The tiny diffusion, and a flow."""
    folder = tmp_path_factory.mktemp("flux")
    saved("flux", folder)
    return {"sd": base, "flux": load_base(str(folder))}


def prompts(base: BaseModel) -> Conditioning:
    return encode(base, PROMPTS).prompts


def adapter(base: BaseModel, name: str = "one") -> Adapter:
    return random_adapter(target_shapes(base, "attention"), 2, "sampling", name, size=0.2)


def course(base: BaseModel, name: str | None) -> Course:
    return Course(steps=6, guidance=3.0, scheduler=name)


def handed_over(state: State) -> State:
    """As bytes, as it travels."""
    blob = save({"latents": state.latents.contiguous(), **{f"memory/{k}": v.contiguous() for k, v in state.memory.items()}})
    found = load(blob)
    return State(found["latents"], state.done, {k.removeprefix("memory/"): v for k, v in found.items() if k != "latents"})


@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize(("of", "name"), NAMED)
def test_halves_give_the_bits_of_one_go(bases: dict[str, BaseModel], of: str, name: str, at: int) -> None:
    either = bases[of]
    how, plan = course(either, name), alone(adapter(either))
    whole = advance(either, how, begin(either, how, SEEDS), prompts(either), plan)
    half = advance(either, how, begin(either, how, SEEDS), prompts(either), plan, until=at)
    assert half.done == at
    assert whole.done == length(either, how) >= 6
    again = advance(either, how, handed_over(half), prompts(either), plan)
    assert torch.equal(again.latents, whole.latents)
    assert bool(torch.isfinite(whole.latents).all())


@pytest.mark.parametrize(("of", "name"), NAMED)
def test_one_user_s_latents_go_on_alone_within_rounding(bases: dict[str, BaseModel], of: str, name: str) -> None:
    either = bases[of]
    how, plan, said = course(either, name), alone(adapter(either)), prompts(either)
    whole = advance(either, how, begin(either, how, SEEDS), said, plan)
    half = advance(either, how, begin(either, how, SEEDS), said, plan, until=3)
    mine = advance(either, how, handed_over(half.rows(slice(1, 2))), said.rows(slice(1, 2)), plan)
    torch.testing.assert_close(mine.latents, whole.latents[1:2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_scheduler_draws_what_diffusers_pipeline_draws_with_it(base: BaseModel, name: str) -> None:
    base = replace(base, scheduler=DDIMScheduler.from_config(base.scheduler.config, rescale_betas_zero_snr=False))
    pipe = pipeline(base)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet = merged(base.denoiser, adapter(base))
    pipe.scheduler = OTHERS[name].from_config(base.scheduler.config)
    want: Tensor = pipe(
        prompt_embeds=prompts(base).tokens,
        negative_prompt_embeds=encode(base, [""] * 3).prompts.tokens,
        latents=torch.stack([torch.randn(*LATENT, generator=generator(s, "picture")) for s in SEEDS]),
        num_inference_steps=6,
        guidance_scale=3.0,
        output_type="latent",
    ).images
    made = advance(base, course(base, name), begin(base, course(base, name), SEEDS), prompts(base), alone(adapter(base)))
    torch.testing.assert_close(made.latents, want, rtol=1e-3, atol=1e-3)


def test_another_adapter_or_prompt_may_follow_at_the_split(base: BaseModel) -> None:
    how = course(base, None)
    half = advance(base, how, begin(base, how, SEEDS), prompts(base), alone(adapter(base)), until=3)
    one = advance(base, how, half, prompts(base), alone(adapter(base))).latents
    for said, plan in ((prompts(base), alone(None)), (encode(base, ["a dog"] * 3).prompts, alone(adapter(base)))):
        assert not torch.allclose(advance(base, how, half, said, plan).latents, one, atol=1e-3)


@pytest.mark.parametrize("name", sorted(DIFFUSION))
def test_every_scheduler_has_the_noise_that_the_base_was_trained_with(base: BaseModel, name: str) -> None:
    for settings in ({"rescale_betas_zero_snr": True}, {"clip_sample": True}):
        of = replace(base, scheduler=DDIMScheduler.from_config(base.scheduler.config, **settings))
        made = scheduler(of, name, 6, LATENT)
        want = of.scheduler.alphas_cumprod
        torch.testing.assert_close(made.alphas_cumprod[:-1], want[:-1], rtol=1e-4, atol=1e-6)
        assert float(made.alphas_cumprod[-1]) == pytest.approx(float(want[-1]), abs=1e-6)
        assert not (name in ("ddim", "heun") and made.config.clip_sample)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (Course(3, 3.0, "pndm"), "the scheduler 'pndm' cannot take 3 steps; give it more"),
        (Course(61, 3.0, "ddim"), "cannot take 61 steps evenly; give it a few more or fewer"),
        (Course(6, float("nan")), "guidance is nan; give a number"),
        (Course(6, -1e30), r"guidance is -1e\+30; give a number from -100 to 100, such as 3"),
        (Course(1001, 3.0), "1001 steps cannot be taken; give 1 to 1000"),
        (Course(6, 3.0, None, 10**9), "at most 4096 are possible"),
        (Course(6, 3.0, None, 17), "pictures of 17 pixels cannot be drawn"),
    ],
)
def test_courses_that_cannot_be_drawn_are_refused(base: BaseModel, wrong: Course, reason: str) -> None:
    trailing = replace(base, scheduler=DDIMScheduler.from_config(base.scheduler.config, timestep_spacing="trailing", skip_prk_steps=False))
    with pytest.raises(InputError, match=reason):
        insist_on_course(trailing, wrong)


SD15 = {"timestep_spacing": "leading", "rescale_betas_zero_snr": False, "steps_offset": 1}
SD3 = {"shift": 3.0, "use_dynamic_shifting": False}
"""How Stable Diffusion 1.5 and 3 are configured."""


@pytest.mark.parametrize(
    ("of", "name", "steps"),
    [("sd", "ddim", 1000), ("sd", "unipc", 1000), ("sd", "dpm++", 999), ("flux", "dpm++", 501), ("flux", "unipc", 400)],
)
def test_more_steps_than_a_scheduler_can_tell_apart_are_refused(bases: dict[str, BaseModel], of: str, name: str, steps: int) -> None:
    base, real = bases[of], SD15 if of == "sd" else SD3
    base = replace(base, scheduler=type(base.scheduler).from_config(base.scheduler.config, **real))
    insist_on_course(base, Course(50, 3.0, name))
    with pytest.raises(InputError, match=rf"the scheduler '{re.escape(name)}' cannot take {steps} steps; give it another number"):
        insist_on_course(base, Course(steps, 3.0, name))


@pytest.mark.parametrize(("of", "name", "settings"), [
    ("sd", "dpm++", {"algorithm_type": "sde-dpmsolver++"}),
    ("flux", "euler", {"stochastic_sampling": True}),
])  # fmt: skip
def test_no_scheduler_draws_by_lot_whatever_the_base_s_folder_says(
    bases: dict[str, BaseModel], of: str, name: str, settings: dict[str, Any]
) -> None:
    base = bases[of]
    base = replace(base, scheduler=type(base.scheduler).from_config({**base.scheduler.config, **settings}))
    course = Course(4, 3.0, name)
    once, again = (advance(base, course, begin(base, course, SEEDS), prompts(base), alone(None)).latents for _ in range(2))
    assert torch.equal(once, again)


def test_old_configurations_are_drawn_on_the_steps_that_diffusers_pipeline_mends_them_to(base: BaseModel) -> None:
    old = DDIMScheduler.from_config(base.scheduler.config, **{**SD15, "steps_offset": 0})
    parts = {"vae": base.vae, "text_encoder": base.text_encoders[0], "tokenizer": base.tokenizers[0], "unet": base.denoiser}
    none: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    with pytest.warns(FutureWarning, match="steps_offset"):
        pipe = StableDiffusionPipeline(scheduler=DDIMScheduler.from_config(old.config), **parts, **none)
    pipe.scheduler.set_timesteps(5)
    made = scheduler(replace(base, scheduler=old), "ddim", 5, LATENT)
    assert made.timesteps.tolist() == pipe.scheduler.timesteps.tolist()
    assert old.config.steps_offset == 0  # the base's own is left as it was


def test_a_picture_larger_than_the_model_s_table_of_positions_is_refused(tmp_path: Path) -> None:
    saved("sd3", tmp_path)
    base = load_base(str(tmp_path))
    most = base.denoiser.config.pos_embed_max_size * 2 * 2  # latents of a patch, pixels of a latent
    course = Course(1, 1.0, None, most)
    advance(base, course, begin(base, course, [0]), encode(base, ["a cat"]).prompts, alone(None))
    with pytest.raises(InputError, match=f"pictures of {most + 4} pixels cannot be drawn with this base; at most {most} are possible"):
        insist_on_course(base, Course(1, 1.0, None, most + 4))


def test_a_picture_that_grew_beyond_all_numbers_is_refused_and_leaves_those_of_its_batch_as_they_are(base: BaseModel) -> None:
    course, prompts = Course(2, 3.0), encode(base, ["a cat", "a dog"]).prompts
    state = begin(base, course, [0, 1])
    far = replace(state, latents=state.latents * torch.tensor([1.0, 1e38])[:, None, None, None])
    near, lost = (advance(base, course, of, prompts, alone(None)).latents for of in (state, far))
    assert torch.equal(near[0], lost[0])
    insist_on_finite(near)
    with pytest.raises(InputError, match="the picture grew beyond all numbers; lower the guidance"):
        insist_on_finite(lost)


@pytest.mark.parametrize("of", ["sd", "flux"])
def test_an_unknown_scheduler_is_refused_by_name(bases: dict[str, BaseModel], of: str) -> None:
    with pytest.raises(InputError, match=r"there is no scheduler 'ancestral' for a .*; there are (ddim, )?euler, dpm"):
        scheduler(bases[of], "ancestral", 4, (4, 8, 8))


@pytest.mark.parametrize(
    ("own", "drawn"),
    [
        ("PNDMScheduler", PNDMScheduler),
        ("HeunDiscreteScheduler", HeunDiscreteScheduler),
        ("EulerAncestralDiscreteScheduler", DDIMScheduler),
    ],
)
def test_a_base_is_drawn_with_its_own_scheduler_unless_that_draws_noise(base: BaseModel, own: str, drawn: type) -> None:
    of = replace(base, options={**base.options, SAMPLER: own})
    assert type(scheduler(of, None, 4, LATENT)) is drawn


# Several adapters


def run(base: BaseModel, plan: Any) -> Tensor:
    how = course(base, None)
    return advance(base, how, begin(base, how, SEEDS), prompts(base), plan).latents


def test_a_weighted_sum_is_that_of_the_dense_updates(base: BaseModel) -> None:
    one, other = adapter(base), adapter(base, "other")
    half, rest = ({n: type(x)(x.a, x.b * w, x.scale) for n, x in a.items()} for w, a in ((0.7, one), (0.3, other)))
    both = merged(merged(base.denoiser, half), rest)
    plain = replace(base, denoiser=both)
    torch.testing.assert_close(run(base, weighted_sum([(0.7, one), (0.3, other)])), run(plain, alone(None)), rtol=1e-3, atol=1e-3)


def test_a_composite_averages_predictions_so_two_equal_halves_are_one(base: BaseModel) -> None:
    one, other = adapter(base), adapter(base, "other")
    torch.testing.assert_close(run(base, composite([(0.5, one), (0.5, adapter(base))])), run(base, alone(one)), rtol=1e-4, atol=1e-4)
    mixed = run(base, composite([(0.5, one), (0.5, other)]))
    assert not torch.allclose(mixed, run(base, weighted_sum([(0.5, one), (0.5, other)])), atol=1e-3)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.75, 0.25), (0.2, 0.3, 0.5), (1.0,)])
def test_a_switch_turns_adapters_on_as_often_as_they_weigh(base: BaseModel, weights: tuple[float, ...]) -> None:
    parts = [(w, adapter(base, str(i))) for i, w in enumerate(weights)]
    plan = switch(parts)
    turns = [next(i for i, (_, a) in enumerate(parts) if a is plan(step)[0][1]) for step in range(0, 40 * STRETCH, STRETCH)]
    for i, weight in enumerate(weights):
        assert abs(turns.count(i) - 40 * weight) <= 1
    assert all(plan(step)[0] == (1.0, plan(step + 1)[0][1]) for step in range(0, 40, STRETCH))


@pytest.mark.parametrize("name", sorted(COMPOSITIONS))
def test_one_adapter_alone_is_the_same_whatever_the_way_and_none_is_the_base(base: BaseModel, name: str) -> None:
    assert torch.equal(run(base, COMPOSITIONS[name]([(1.0, adapter(base))])), run(base, alone(adapter(base))))
    assert torch.equal(run(base, COMPOSITIONS[name]([])), run(base, alone(None)))


def test_the_base_is_plain_again_afterwards_and_if_a_step_fails(base: BaseModel, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in base.denoiser.state_dict().items()}

    def broken(step: int) -> Any:
        if step == 2:
            raise RuntimeError("stop")
        return [(1.0, one)]

    one = adapter(base)
    with pytest.raises(RuntimeError, match="stop"):
        run(base, broken)
    after = base.denoiser.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
