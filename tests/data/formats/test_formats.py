"""Exported adapters open in PEFT and diffusers and mean the same there; what others made is read with distrust."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers
from diffusers.models.attention_processor import AttnProcessor
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from data.base.load import forget_base, load_base
from data.formats import FORMATS, Made, made_for, read_adapter
from data.formats.kohya import write_kohya
from fedcore.adapters import Adapter, Layer
from fedcore.base import BaseModel
from fedcore.course import Course
from fedcore.errors import AdapterRefused, FedcoreError
from fedcore.families import FAMILIES as KNOWN
from fedcore.generation import generate
from fedcore.injection import Target, target_shapes
from fedcore.prompts import encode
from fedcore.sampling import alone
from fedcore.seeds import generator
from tests.families import PIXELS, saved
from tests.tiny import dense, random_adapter

FILES = {"peft": ".", "diffusers": "pytorch_lora_weights.safetensors", "kohya": "lora.safetensors"}
PROMPTS, SEEDS = ["a cat", "pizza"], (3, 4)


@dataclass(frozen=True)
class Both:
    """The same folder, opened by diffusers and by us."""

    name: str
    folder: Path
    pipeline: DiffusionPipeline
    base: BaseModel

    def made(self, adapter: Adapter) -> Made:
        """What an adapter is written for."""
        return made_for("tiny", self.folder, adapter)


@pytest.fixture(scope="module", params=["sd15", "sd2", "sdxl", "sd3", "flux"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("family")
    yield Both(request.param, folder, saved(request.param, folder), load_base(str(folder)))
    forget_base()


def adapter(base: BaseModel, target: Target = "attention", ranks: tuple[int, ...] = (2,), scales: tuple[float, ...] = (0.5,)) -> Adapter:
    return {
        name: random_adapter({name: shape}, ranks[i % len(ranks)], name, scale=scales[i % len(scales)], size=0.3)[name]
        for i, (name, shape) in enumerate(target_shapes(base, target).items())
    }


def same(x: Adapter, y: Adapter) -> None:
    """The same update."""
    assert set(x) == set(y)
    for name in x:
        torch.testing.assert_close(dense(x[name]), dense(y[name]), rtol=1e-5, atol=1e-6)


def drawn(both: Both) -> torch.Tensor:
    shape = both.base.family.shape(both.base, None)
    noise = torch.stack([torch.randn(shape, generator=generator(seed, "picture")) for seed in SEEDS])
    if both.name == "flux":
        n, c, h, w = noise.shape
        noise = both.pipeline._pack_latents(noise, n, c, h, w)
    made = both.pipeline(
        PROMPTS, latents=noise, num_inference_steps=4, guidance_scale=3.0, height=PIXELS, width=PIXELS, output_type="np"
    ).images
    return torch.from_numpy((made * 255).round()).permute(0, 3, 1, 2).to(torch.uint8)


def written(both: Both, adapter: Adapter, kind: str, folder: Path) -> Path:
    FORMATS[kind](adapter, both.made(adapter), folder)
    return folder / FILES[kind]


MIXED: dict[str, Any] = {"ranks": (1, 4, 2), "scales": (0.5, 2.0, 1.0)}


@pytest.mark.parametrize("shape", [{}, MIXED], ids=["plain", "mixed"])
def test_diffusers_draws_the_very_pictures_with_its_file(both: Both, tmp_path: Path, shape: dict[str, Any]) -> None:
    """With the same attention and memory layout, which are ours to choose and round differently."""
    if "sd" in both.name and both.name != "sd3":
        both.pipeline.unet.set_attn_processor(AttnProcessor())
        both.pipeline.unet.to(memory_format=torch.channels_last)
    mine = adapter(both.base, "all", **shape)
    written(both, mine, "diffusers", tmp_path)
    plain = drawn(both)
    both.pipeline.load_lora_weights(tmp_path)
    try:
        theirs = drawn(both)
    finally:
        both.pipeline.unload_lora_weights()
    ours = generate(both.base, Course(4, 3.0), encode(both.base, PROMPTS).prompts, alone(mine), seeds=SEEDS)
    assert torch.equal(theirs, ours)
    assert int((theirs.int() - plain.int()).abs().max()) > 3


@pytest.mark.parametrize("shape", [{}, MIXED], ids=["plain", "mixed"])
@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_what_was_written_is_read_back(both: Both, tmp_path: Path, kind: str, shape: dict[str, Any]) -> None:
    mine = adapter(both.base, "all", **shape)
    if KNOWN[type(both.pipeline).__name__].kohya is None and kind == "kohya":
        with pytest.raises(FedcoreError, match="no kohya names for a StableDiffusion3Pipeline; use --format diffusers"):
            written(both, mine, kind, tmp_path)
        return
    if both.name == "flux" and kind == "kohya":
        pytest.skip("diffusers' converter knows Flux's own width only; see below")
    same(read_adapter(written(both, mine, kind, tmp_path), both.base), mine)


def test_peft_opens_its_folder(both: Both, tmp_path: Path) -> None:
    mine = adapter(both.base, "all")
    opened = PeftModel.from_pretrained(getattr(both.pipeline, both.base.family.denoiser), written(both, mine, "peft", tmp_path))
    layers = {n.removeprefix("base_model.model."): m for n, m in opened.named_modules() if hasattr(m, "lora_A")}
    assert set(layers) == set(mine)
    for name, layer in mine.items():
        torch.testing.assert_close(layers[name].get_delta_weight("default").flatten(1).double(), dense(layer), rtol=1e-4, atol=1e-5)
    opened.unload()


@pytest.mark.parametrize("both", ["sd15", "sd2", "sdxl", "flux"], indirect=True)
def test_kohya_s_file_tells_rank_alpha_and_kind(both: Both, tmp_path: Path) -> None:
    with safe_open(written(both, adapter(both.base), "kohya", tmp_path), "pt") as file:
        about, keys = file.metadata(), set(file.keys())
    fused = both.name == "flux"  # queries, keys and values in one layer, and in single blocks the MLP: its scale is folded in
    assert (about["ss_network_dim"], float(about["ss_network_alpha"])) == (("8", 8.0) if fused else ("2", 1.0))
    # the small model of version 2 has prompts as wide as version 1's
    assert about["ss_base_model_version"] == {"sdxl": "sdxl_base_v1-0", "flux": "flux1", "sd2": "sd_v1_v"}.get(both.name, "sd_v1")
    assert all(key.startswith("lora_unet_") for key in keys)
    assert {key.rsplit(".", 1)[1] for key in keys} == {"weight", "alpha"}


@pytest.mark.parametrize(
    ("width", "predicts", "version"),
    [(768, "epsilon", "sd_v1"), (1024, "epsilon", "sd_v2"), (1024, "v_prediction", "sd_v2_v"), (768, "v_prediction", "sd_v1_v")],
)
def test_stable_diffusion_2_is_told_by_the_width_of_its_prompts(tmp_path: Path, width: int, predicts: str, version: str) -> None:
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    mine = random_adapter({layer: (320, width)}, 2)
    write_kohya(mine, Made("x", KNOWN["StableDiffusionPipeline"], predicts, {layer: (320, width)}), tmp_path)
    with safe_open(tmp_path / "lora.safetensors", "pt") as file:
        about = file.metadata()
    assert (about["ss_base_model_version"], about["ss_v2"]) == (version, str(version.startswith("sd_v2")))


def test_flux_is_read_back_by_diffusers_converter_at_its_own_width() -> None:
    """3072 wide, MLP 12288: queries, keys and values of one rank each, and with other ranks and scales."""
    family = KNOWN["FluxPipeline"]
    kernels = {f"transformer_blocks.0.attn.{e}": (3072, 3072) for e in ("to_q", "to_k", "to_v", "to_out.0")}
    kernels |= {f"transformer_blocks.0.attn.{e}": (3072, 3072) for e in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")}
    kernels |= {f"single_transformer_blocks.3.attn.{e}": (3072, 3072) for e in ("to_q", "to_k", "to_v")}
    kernels |= {"single_transformer_blocks.3.proj_mlp": (12288, 3072), "single_transformer_blocks.3.proj_out": (3072, 15360)}
    mine = {n: random_adapter({n: k}, i % 2 + 1, n, scale=(0.5, 2.0, 1.0)[i % 3])[n] for i, (n, k) in enumerate(kernels.items())}
    assert family.kohya is not None
    tensors = {}
    for name, (layer, kernel) in family.kohya.renamed(mine, kernels).items():
        assert (layer.b.shape[0], layer.a.shape[1]) == kernel
        tensors |= {f"{name}.lora_down.weight": layer.a, f"{name}.lora_up.weight": layer.b.float()}
        tensors[f"{name}.alpha"] = torch.tensor(layer.rank * layer.scale)
    found = _convert_kohya_flux_lora_to_diffusers(tensors)
    for name, layer in mine.items():
        a, b = (found[f"transformer.{name}.lora_{factor}.weight"] for factor in "AB")
        torch.testing.assert_close(dense(Layer(a, b)), dense(layer), rtol=1e-4, atol=1e-4)


def test_the_same_adapter_gives_the_same_bytes(both: Both, tmp_path: Path) -> None:
    mine = adapter(both.base)
    for kind in ("peft", "diffusers", *(["kohya"] if both.base.family.kohya else [])):
        contents = []
        for i, order in enumerate((mine, dict(reversed(mine.items())))):
            folder = tmp_path / f"{kind}-{i}"
            folder.mkdir()
            written(both, order, kind, folder)
            contents.append({f.name: f.read_bytes() for f in sorted(folder.iterdir())})
        assert contents[0] == contents[1]


# What is refused


def no_safetensors(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04 a pickle")


def text_encoder(file: Path) -> None:
    save_file(load_file(file) | {"text_encoder.layers.0.q_proj.lora_A.weight": torch.zeros(2, 4)}, file)


def half(file: Path) -> None:
    tensors = load_file(file)
    tensors.pop(min(tensors))
    save_file(tensors, file)


def shapes(file: Path) -> None:
    tensors = load_file(file)
    name = min(tensors)
    save_file(tensors | {name: torch.zeros(9, 9)}, file)


def names(file: Path) -> None:
    save_file({"lora_unet_made_up": torch.zeros(2, 2)}, file)


def bias(file: Path) -> None:
    tensors = load_file(file)
    save_file({**tensors, min(tensors).replace(".weight", ".bias"): torch.zeros(4)}, file)


def whole_numbers(file: Path) -> None:
    save_file({name: value.int() for name, value in load_file(file).items()}, file)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (no_safetensors, "not a safetensors file"),
        (text_encoder, "'text_encoder.layers.0.q_proj.lora_A.weight' is no layer of the"),
        (half, "lacks one of its two factors"),
        (shapes, "do not multiply"),
        (names, "lora_unet_made_up"),
        (bias, "is a bias, which cannot be used"),
        (whole_numbers, "holds torch.int32, not the numbers of an adapter"),
    ],
)
def test_files_that_are_no_adapter_are_refused_in_one_line(both: Both, tmp_path: Path, damage: Callable[[Path], None], told: str) -> None:
    file = written(both, adapter(both.base), "diffusers", tmp_path)
    damage(file)
    with pytest.raises(AdapterRefused) as refused:
        read_adapter(file, both.base)
    assert told in str(refused.value)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_peft_s_patterns_of_alpha_are_names_or_their_ends_and_no_others_are_run(both: Both, tmp_path: Path) -> None:
    """A pattern such as the last one takes a regular expression's engine longer than a life."""
    made = adapter(both.base)
    folder, config = written(both, made, "peft", tmp_path), tmp_path / "adapter_config.json"
    first, *others = sorted(made)
    end = first.rsplit(".", 1)[-1]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 2, "alpha_pattern": {f"^{first}": 6, end: 12}}))
    found = read_adapter(folder, both.base)
    want = {name: (6 if name == first else 12 if name.endswith(f".{end}") else 2) / made[name].rank for name in made}
    assert {name: layer.scale for name, layer in found.items()} == want
    assert set(want) > {first} and others
    config.write_text(json.dumps(json.loads(config.read_text()) | {"alpha_pattern": {"(a+)+b": 1}}))
    with pytest.raises(AdapterRefused, match=r"alpha_pattern '\(a\+\)\+b' is no name"):
        read_adapter(folder, both.base)


@pytest.mark.parametrize("both", ["sd15", "sd2", "sdxl"], indirect=True)
def test_alphas_may_be_whole_numbers_as_kohya_s_own_scripts_write_them(both: Both, tmp_path: Path) -> None:
    file = written(both, adapter(both.base), "kohya", tmp_path)
    save_file({key: torch.tensor(4) if key.endswith(".alpha") else value for key, value in load_file(file).items()}, file)
    assert {layer.scale * layer.rank for layer in read_adapter(file, both.base).values()} == {4}


def test_alphas_beside_factors_of_peft_s_names_count(both: Both, tmp_path: Path) -> None:
    """As OneTrainer writes them, and diffusers drops them unless it is asked."""
    mine, part = adapter(both.base), both.base.family.denoiser
    file = written(both, {name: Layer(x.a, x.b) for name, x in mine.items()}, "diffusers", tmp_path)
    alphas = {f"{part}.{name}.alpha": torch.tensor(0.5 * layer.rank) for name, layer in mine.items()}
    save_file({**load_file(file), **alphas}, file)
    same(read_adapter(file, both.base), mine)
    save_file({**load_file(file), f"{part}.elsewhere.alpha": torch.tensor(1.0)}, file)
    with pytest.raises(AdapterRefused, match="layer 'elsewhere' has an alpha and no factors"):
        read_adapter(file, both.base)


@pytest.mark.parametrize("both", ["sd15", "sdxl"], indirect=True)
@pytest.mark.parametrize(
    ("factors", "alpha"),
    [
        (("to_out.lora_A.weight", "to_out.lora_B.weight"), "to_out.alpha"),
        (("processor.to_q_lora.down.weight", "processor.to_q_lora.up.weight"), "processor.to_q_lora.alpha"),
    ],
)
def test_alphas_follow_their_factors_from_older_names(both: Both, tmp_path: Path, factors: tuple[str, str], alpha: str) -> None:
    block = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"
    tensors = {f"{block}.{factors[0]}": torch.ones(2, 32), f"{block}.{factors[1]}": torch.ones(32, 2)}
    save_file({**tensors, f"{block}.{alpha}": torch.tensor([1])}, tmp_path / "old.safetensors")
    (layer,) = read_adapter(tmp_path / "old.safetensors", both.base).values()
    assert layer.scale == 0.5


def test_who_reads_factors_alone_gets_the_whole_update_of_a_diffusers_file(both: Both, tmp_path: Path) -> None:
    """As ComfyUI, which finds alphas beside the factors or takes the scale for one."""
    mine = adapter(both.base, **MIXED)
    tensors = load_file(written(both, mine, "diffusers", tmp_path))
    for name, layer in mine.items():
        down, up = (tensors[f"{both.base.family.denoiser}.{name}.lora_{factor}.weight"].flatten(1) for factor in "AB")
        torch.testing.assert_close(up.double() @ down.double(), dense(layer), rtol=1e-5, atol=1e-6)


def numbered_by_kohya(key: str, of: int) -> str:
    """A UNet's block as the models' first authors number it, with `of` layers in each level."""
    key = re.sub(r"down_blocks_(\d)_attentions_(\d)", lambda m: f"input_blocks_{1 + int(m[1]) * (of + 1) + int(m[2])}_1", key)
    key = re.sub(r"up_blocks_(\d)_attentions_(\d)", lambda m: f"output_blocks_{int(m[1]) * (of + 1) + int(m[2])}_1", key)
    return key.replace("mid_block_attentions_0", "middle_block_1")


@pytest.mark.parametrize("both", ["sd15", "sdxl"], indirect=True)
def test_kohya_s_own_numbers_of_blocks_are_read(both: Both, tmp_path: Path) -> None:
    mine = adapter(both.base)
    file = written(both, mine, "kohya", tmp_path)
    plain = load_file(file)
    others = {numbered_by_kohya(key, both.base.denoiser.config.layers_per_block): value for key, value in plain.items()}
    pairs = [("input_blocks", "up_blocks"), ("middle_block", "down_blocks"), ("output_blocks", "up_blocks"), ("input_blocks", "mid_block")]
    assert not set(others) & set(plain)
    save_file(others, file)
    same(read_adapter(file, both.base), mine)
    for theirs, ours in pairs:
        save_file({k: v.clone() for k, v in [*others.items(), *plain.items()] if theirs in k or ours in k}, file)
        with pytest.raises(AdapterRefused, match="it names layers in two ways"):
            read_adapter(file, both.base)


def test_nothing_of_a_stranger_s_names_reaches_the_terminal_as_it_is(both: Both, tmp_path: Path) -> None:
    file = written(both, adapter(both.base), "diffusers", tmp_path)
    for key in (f"{both.base.family.denoiser}.\x1b[2J.lora_A.weight", "\x1b[31m.lora_A.weight", "lora_unet_\x1b[31m.lora_down.weight"):
        save_file({key: torch.zeros(2, 2)}, file)
        with pytest.raises(AdapterRefused) as refused:
            read_adapter(file, both.base)
        assert str(refused.value).isprintable()


def test_a_rank_that_no_training_gives_is_refused(both: Both, tmp_path: Path) -> None:
    huge = {n: Layer(x.a.repeat(600, 1), x.b.repeat(1, 600), x.scale) for n, x in adapter(both.base).items()}
    with pytest.raises(AdapterRefused, match=r"has rank 1,200; at most 1,024 can be used"):
        read_adapter(written(both, huge, "peft", tmp_path), both.base)


def test_a_peft_folder_of_another_kind_is_refused(both: Both, tmp_path: Path) -> None:
    folder = written(both, adapter(both.base), "peft", tmp_path)
    config = tmp_path / "adapter_config.json"
    plain = json.loads(config.read_text())
    for harmless in ({"fan_in_fan_out": True}, {"bias": "lora_only"}, {"bias": None}, {"init_lora_weights": "Gaussian"}):
        config.write_text(json.dumps(plain | harmless))
        assert read_adapter(folder, both.base)
    config.write_text(json.dumps(plain | {"use_dora": True}))
    with pytest.raises(AdapterRefused, match="its configuration makes it a DoRA"):
        read_adapter(folder, both.base)
    for began in ("pissa", "pissa_niter_4", "olora"):
        config.write_text(json.dumps(plain | {"init_lora_weights": began}))
        with pytest.raises(AdapterRefused, match=f"it was begun with '{began}', which changes the base's weights as well"):
            read_adapter(folder, both.base)
    config.write_text(json.dumps(plain | {"layer_replication": [[0, 2]]}))
    with pytest.raises(AdapterRefused, match="repeats layers"):
        read_adapter(folder, both.base)
    config.write_text(json.dumps(plain | {"peft_type": "LOHA"}))
    with pytest.raises(AdapterRefused, match="no LoRA"):
        read_adapter(folder, both.base)
    config.unlink()
    with pytest.raises(AdapterRefused, match="missing or damaged"):
        read_adapter(folder, both.base)
    with pytest.raises(AdapterRefused, match=r"there is no such file; give a PEFT folder or a \.safetensors file"):
        read_adapter(tmp_path / "no.safetensors", both.base)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "lora.safetensors")
    with pytest.raises(AdapterRefused, match=r"this is no PEFT folder; give the file itself, such as .*/lora\.safetensors"):
        read_adapter(folder, both.base)
    (tmp_path / "adapter_model.bin").touch()
    with pytest.raises(AdapterRefused, match=r"save the adapter again with safe_serialization=True"):
        read_adapter(folder, both.base)
