"""An adapter from elsewhere becomes a client's beginning, checked as an upload is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.clients import load_client
from data.formats import FORMATS, made_for
from data.import_adapter import import_adapter
from data.tables import write_table
from fedcore import adapters
from fedcore.adapters import Layer
from fedcore.base import BaseModel
from fedcore.errors import AdapterRefused, ConfigError
from fedcore.injection import initial, target_shapes
from tests.tiny import dense, png, random_adapter


def client(folder: Path) -> Path:
    write_table(folder / "c01.parquet", [(png(i), "a", "train") for i in range(2)])
    (folder / "c01.yaml").write_text("# mine\nstatement: black line art\npictures: c01.parquet\n")
    return folder / "c01.yaml"


@pytest.mark.parametrize("kind", ["peft", "diffusers", "kohya"])
def test_a_file_of_any_format_is_kept_beside_the_client_and_named_in_its_file(
    base: BaseModel, base_folder: Path, tmp_path: Path, kind: str
) -> None:
    file, before = client(tmp_path), load_client
    digest = before("c01", tmp_path).digest
    mine = random_adapter(target_shapes(base, "attention"), 3, scale=0.5, size=0.1)
    (tmp_path / "made").mkdir()
    FORMATS[kind](mine, made_for("tiny", base_folder, mine), tmp_path / "made")
    source = tmp_path / "made" if kind == "peft" else next((tmp_path / "made").iterdir())
    written = import_adapter(source, "c01", tmp_path, base, target_shapes(base, "all"))
    assert file.read_text() == "# mine\nstatement: black line art\npictures: c01.parquet\nadapter: c01.adapter.safetensors\n"
    found = load_client("c01", tmp_path)
    assert found.adapter == written.read_bytes()
    assert found.digest != digest
    for name, layer in adapters.from_bytes(found.adapter).items():
        torch.testing.assert_close(dense(layer), dense(mine[name]), rtol=1e-5, atol=1e-7)
    with pytest.raises(ConfigError, match="names an adapter already"):
        import_adapter(source, "c01", tmp_path, base, target_shapes(base, "all"))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Layer(torch.full((2, 128), float("nan")), torch.zeros(32, 2)), "not finite"),
        (Layer(torch.full((2, 128), 1e6), torch.ones(32, 2)), "above the limit"),
        (Layer(torch.zeros(2, 64), torch.zeros(32, 2)), "expected"),
        (Layer(torch.zeros(2, 128), torch.zeros(32, 2), float("inf")), "not finite"),
    ],
)
def test_what_no_client_might_hand_over_is_refused_and_nothing_written(
    base: BaseModel, base_folder: Path, tmp_path: Path, layer: Layer, reason: str
) -> None:
    file, name = client(tmp_path), "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    text = file.read_text()
    (tmp_path / "made").mkdir()
    made = made_for("tiny", base_folder, [name])
    width = layer.a.shape[1]
    FORMATS["diffusers"]({name: layer}, replace(made, kernels={name: (32, width)}), tmp_path / "made")
    with pytest.raises(AdapterRefused, match=reason):
        import_adapter(next((tmp_path / "made").iterdir()), "c01", tmp_path, base, target_shapes(base, "all"))
    assert file.read_text() == text
    assert not (tmp_path / "c01.adapter.safetensors").exists()


@pytest.mark.parametrize("name", ["../c01", "C01", ""])
def test_a_name_that_no_client_has_is_refused(base: BaseModel, tmp_path: Path, name: str) -> None:
    client(tmp_path)
    (tmp_path / "inner").mkdir()
    with pytest.raises(ConfigError, match="is no client's name"):
        import_adapter(tmp_path / "x.safetensors", name, tmp_path / "inner", base, target_shapes(base, "all"))


def test_a_dora_is_refused_not_read_in_part(base: BaseModel, base_folder: Path, tmp_path: Path) -> None:
    client(tmp_path)
    mine = random_adapter(target_shapes(base, "attention"), 2)
    FORMATS["kohya"](mine, made_for("tiny", base_folder, mine), tmp_path)
    file = tmp_path / "lora.safetensors"
    tensors = load_file(file)
    key = min(tensors).removesuffix(".alpha") + ".dora_scale"
    save_file({**tensors, key: torch.ones(32, 1)}, file)
    with pytest.raises(AdapterRefused, match="makes it a DoRA"):
        import_adapter(file, "c01", tmp_path, base, target_shapes(base, "all"))


def test_a_beginning_takes_the_form_of_what_was_sent(base: BaseModel) -> None:
    shapes = target_shapes(base, "attention")
    sent = initial(shapes, rank=4, scale=0.5, seed=0)
    some = dict(list(random_adapter(shapes, 2, scale=2.0, size=0.1).items())[:3])
    begun = adapters.begun_with(some, sent, seed=0)
    assert set(begun) == set(sent)
    assert {(layer.rank, layer.scale) for layer in begun.values()} == {(4, 0.5)}
    for name, layer in begun.items():
        torch.testing.assert_close(dense(layer), dense(some[name]) if name in some else dense(sent[name]), rtol=1e-5, atol=1e-6)
    with pytest.raises(AdapterRefused, match=r"which is not trained here; set adapter.target: all"):
        adapters.begun_with({"conv_in": next(iter(some.values()))}, sent, seed=0)


@pytest.mark.parametrize(
    "text",
    [
        "{statement: black line art, pictures: c01.parquet}\n",
        "{statement: black line art,\n  pictures: c01.parquet}\n",
        "statement: black line art\npictures: c01.parquet",
    ],
)
def test_a_client_s_file_can_be_read_afterwards_however_it_was_written(
    base: BaseModel, base_folder: Path, tmp_path: Path, text: str
) -> None:
    file = client(tmp_path)
    file.write_text(text)
    file.chmod(0o600)
    mine = random_adapter(target_shapes(base, "attention"), 2, size=0.1)
    (tmp_path / "made").mkdir()
    FORMATS["diffusers"](mine, made_for("tiny", base_folder, mine), tmp_path / "made")
    import_adapter(next((tmp_path / "made").iterdir()), "c01", tmp_path, base, target_shapes(base, "all"))
    assert load_client("c01", tmp_path).adapter is not None
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_layer_that_is_never_adapted_is_named_with_those_that_are(base: BaseModel, base_folder: Path, tmp_path: Path) -> None:
    client(tmp_path)
    shapes, mine = target_shapes(base, "attention"), random_adapter(target_shapes(base, "attention"), 2, size=0.1)
    (tmp_path / "made").mkdir()
    FORMATS["diffusers"](mine, made_for("tiny", base_folder, mine), tmp_path / "made")
    known = {name: shape for name, shape in shapes.items() if not name.endswith("to_v")}
    with pytest.raises(AdapterRefused, match=r"covers layer '.*to_v', which adapters of this base do not; .*: to_k, to_out, to_q$"):
        import_adapter(next((tmp_path / "made").iterdir()), "c01", tmp_path, base, known)
