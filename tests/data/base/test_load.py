"""A base model's folder: opened frozen, named by its content, refused in clear words."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.base.folder import base_folder as folder_of
from data.base.folder import digest, parts_of
from data.base.load import forget_base, load_base, load_exact
from fedcore.base import BaseModel
from fedcore.errors import BaseModelError, InputError

WEIGHTS = {
    "text_encoder": "model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
}


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the tiny base to damage."""
    yield Path(shutil.copytree(base_folder, tmp_path / "copy"))
    forget_base()


def test_the_base_is_loaded_in_float32_frozen_and_in_evaluation_mode(base: BaseModel, base_folder: Path) -> None:
    stored = load_file(base_folder / "unet" / WEIGHTS["unet"])
    assert all(torch.equal(tensor, stored[name]) for name, tensor in base.denoiser.state_dict().items())
    for part in (base.denoiser, base.vae, base.text_encoders[0]):
        assert not part.training
        assert {(p.dtype, p.requires_grad) for p in part.parameters()} == {(torch.float32, False)}
    assert (base.scheduler.config.prediction_type, float(base.scheduler.alphas_cumprod[-1])) == ("v_prediction", 0.0)


def test_the_digest_names_the_files_of_the_parts_wherever_they_lie(base: BaseModel, copy: Path) -> None:
    (copy / "README.md").write_text("no part of the model")
    assert digest(copy) == base.digest
    seen = {base.digest}
    for part in parts_of(copy):
        file = next(p for p in sorted((copy / part).iterdir()) if p.suffix == ".json")
        file.write_text(file.read_text() + " ")
        digest.cache_clear()
        seen.add(digest(copy))
    assert len(seen) == 1 + len(parts_of(copy))


def test_a_folder_that_is_no_base_is_refused(copy: Path) -> None:
    with pytest.raises(BaseModelError, match=f"^base '{copy / 'no'}': .*holds no model_index.json"):
        folder_of(str(copy / "no"))
    shutil.rmtree(copy / "vae")
    with pytest.raises(BaseModelError, match=r"has no folder 'vae'; a StableDiffusionPipeline needs tokenizer"):
        load_base(str(copy))


@pytest.mark.parametrize("part", sorted(WEIGHTS))
def test_a_file_that_was_copied_in_part_is_refused_before_anything_is_opened(copy: Path, part: str) -> None:
    file = copy / part / WEIGHTS[part]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BaseModelError, match=rf"^base '{copy}': {file} is not whole; copy or download it again"):
        folder_of(str(copy))


def test_only_files_that_are_opened_must_be_whole(copy: Path) -> None:
    for name in ("._model.safetensors", "model.fp16.safetensors"):
        (copy / "text_encoder" / name).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert folder_of(str(copy)) == copy


@pytest.mark.parametrize("part", sorted(WEIGHTS))
def test_missing_weights_and_shards_are_refused_by_name(copy: Path, part: str) -> None:
    whole = copy / part / WEIGHTS[part]
    shards = {"x": "model-00001-of-00002.safetensors", "y": "model-00002-of-00002.safetensors"}
    whole.rename(whole.with_name(shards["x"]))
    with pytest.raises(BaseModelError, match=f"{whole} is missing"):
        folder_of(str(copy))
    index = whole.with_name(f"{whole.name}.index.json")
    index.write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(BaseModelError, match=f"{shards['y']} is missing"):
        folder_of(str(copy))
    shutil.copy(whole.with_name(shards["x"]), whole.with_name(shards["y"]))
    assert folder_of(str(copy)) == copy
    index.write_text("{}")
    with pytest.raises(BaseModelError, match=f"{index} is damaged"):
        folder_of(str(copy))


def test_another_kind_of_pipeline_is_refused(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "KandinskyPipeline"}))
    with pytest.raises(BaseModelError, match="a KandinskyPipeline, which Fedcore does not know; it knows StableDiffusionPipeline"):
        load_base(str(copy))


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_a_damaged_index_is_refused(copy: Path, text: str) -> None:
    (copy / "model_index.json").write_text(text)
    with pytest.raises(BaseModelError, match="names no pipeline class"):
        load_base(str(copy))


@pytest.mark.parametrize("part", sorted(WEIGHTS))
def test_weights_that_lack_a_tensor_are_refused_and_not_made_up(copy: Path, part: str) -> None:
    file = copy / part / WEIGHTS[part]
    tensors = load_file(file)
    tensors.pop(min(tensors))
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match="cannot be opened"):
        load_base(str(copy))


def test_weights_as_pickle_are_refused(copy: Path) -> None:
    file = copy / "unet" / WEIGHTS["unet"]
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(BaseModelError, match=r"\.safetensors is missing \(only safetensors are opened\)"):
        load_base(str(copy))


def test_other_weights_than_the_federation_s_are_refused(base: BaseModel, base_folder: Path) -> None:
    assert load_exact(str(base_folder), base.digest).digest == base.digest
    with pytest.raises(BaseModelError, match="has other weights here"):
        load_exact(str(base_folder), "0" * 64)


def test_files_that_nobody_opens_name_no_other_base(base: BaseModel, copy: Path) -> None:
    shutil.copy(copy / "unet" / WEIGHTS["unet"], copy / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    (copy / "text_encoder" / "flax_model.msgpack").write_bytes(b"another library's")
    assert digest(copy) == base.digest


def test_a_base_in_pieces_is_named_by_those_that_are_opened(base: BaseModel, copy: Path) -> None:
    """Diffusers opens what an index lists even where the whole file is there, too."""
    file = copy / "vae" / WEIGHTS["vae"]
    moved = {name: value + 1 for name, value in load_file(file).items()}
    save_file(moved, copy / "vae" / "piece.safetensors", metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(moved, "piece.safetensors")}
    file.with_name(f"{file.name}.index.json").write_text(json.dumps(index))
    digest.cache_clear()
    assert digest(folder_of(str(copy))) != base.digest
    opened = load_base(str(copy)).vae.state_dict()
    assert all(torch.equal(opened[name], value) for name, value in moved.items())


def test_a_base_that_holds_an_adapter_or_lacks_a_configuration_is_refused(copy: Path) -> None:
    (copy / "text_encoder" / "adapter_config.json").write_text("{}")
    with pytest.raises(BaseModelError, match=r"text_encoder holds an adapter; move adapter_config\.json and its weights away"):
        load_base(str(copy))
    (copy / "text_encoder" / "adapter_config.json").unlink()
    (copy / "vae" / "config.json").unlink()
    with pytest.raises(BaseModelError, match=r"vae/config\.json is missing"):
        load_base(str(copy))


def test_a_model_of_the_hub_is_taken_from_the_local_cache_or_asked_for(
    base: BaseModel, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache as `hf download` leaves it: a reference by name, a snapshot by commit."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseModelError, match="run `hf download some/model` first"):
        folder_of("some/model")
    kept = tmp_path / "models--some--model"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    shutil.copytree(base_folder, kept / "snapshots" / ("0" * 40))
    assert digest(folder_of("some/model")) == base.digest


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(base_folder: Path, device: Literal["cuda", "mps"]) -> None:
    if (torch.cuda if device == "cuda" else torch.backends.mps).is_available():
        pytest.skip(f"there is a {device} here")
    with pytest.raises(InputError, match=f"device '{device}': there is none here; set device to"):
        load_base(str(base_folder), device=device)
