"""Pictures and adapters of a finished run, by the command line: mixed styles, metadata, exports that other programs open."""

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from data.base.folder import digest
from data.base.load import forget_base
from data.home import HOME, Home
from data.records import rounds
from fedcore.adapters import from_bytes
from tasks.export import write_bank
from tests.e2e.conftest import CANARY, CLIENTS, Ran, World
from tests.tiny import dense


def told(picture: Path) -> dict[str, object]:
    """The metadata of a picture."""
    with Image.open(picture) as opened:
        found: dict[str, object] = json.loads(opened.info["fedcore"])
    return found


def draw(world: World, out: Path, *arguments: str) -> Path:
    made = world.command("generate", "demo", "--steps", "3", "--out", str(out), "--prompt", f"a {CANARY}", *arguments)
    assert made.code == 0, made.output
    return out


def test_pictures_say_what_they_were_made_with_but_not_the_prompt(ran: Ran, world: World, tmp_path: Path) -> None:
    mixed = ["--styles", "0:3,1:1", "--number", "3", "--scheduler", "unipc", "--compose", "switch", "--seed", "5"]
    one, again = (draw(world, tmp_path / name, *mixed) for name in ("one.png", "two.png"))
    assert one.read_bytes() == again.read_bytes()
    assert CANARY not in one.read_bytes().decode("latin-1")
    about = told(one)
    assert (about["compose"], about["seed"], about["number"], about["scheduler"], about["steps"]) == ("switch", 5, 3, "unipc", 3)
    record = rounds(Home(world.home).server(), "demo")[-1]
    want = [
        {"weight": w, "style": f"cluster {c}", "adapters": [[1.0, record.clusters[c].adapter.sha256]]} for c, w in ((0, 0.75), (1, 0.25))
    ]
    assert about["styles"] == want
    with Image.open(one) as opened:
        assert opened.size == (16 + 6 + 16, 16 + 6 + 16)
    kept = draw(world, tmp_path / "kept.png", "--auto", "--keep-prompt", "--size", "32")
    assert told(kept)["prompt"] == f"a {CANARY}"
    with Image.open(kept) as opened:
        assert opened.size == (32, 32)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--styles", "0:1,7:1"], "there is no cluster 7"),
        (["--styles", "0:0.5,0:0.5"], "every cluster once"),
        (["--cluster", "0", "--auto"], "give one of --client, --cluster, --styles, --auto and --wish"),
        (["--cluster", "0", "--wish", "pale"], "give one of --client, --cluster, --styles, --auto and --wish"),
        (["--scheduler", "ancestral"], "there is no scheduler 'ancestral'"),
        (["--compose", "average"], "there is no composition 'average'"),
        (["--size", "33"], "pictures of 33 pixels cannot be drawn"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(ran: Ran, world: World, tmp_path: Path, arguments: list[str], reason: str) -> None:
    made = world.command("generate", "demo", "--prompt", "x", "--out", str(tmp_path / "no.png"), *arguments)
    assert made.code == 2
    assert re.search(reason, made.output)
    assert made.output.strip().count("\n") == 0
    assert not (tmp_path / "no.png").exists()


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_drawn(ran: Ran, world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    places = {tmp_path: "is a folder; name a file", tmp_path / "file" / "x.png": "cannot be written", tmp_path / "x.jpg": "ends in .png"}
    for out, reason in places.items():
        made = world.command("generate", "demo", "--prompt", "x", "--steps", "1", "--out", str(out))
        assert (made.code, reason in made.output) == (2, True), made.output
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_whole_bank_opens_with_the_example_that_lies_beside_it(
    ran: Ran, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's ten lines, run as they stand, but for fewer steps."""
    monkeypatch.chdir(tmp_path)
    for kind in ("diffusers", "peft", "kohya"):
        made = world.command("export", "demo", "--global", "--format", kind, "--out", str(tmp_path / kind))
        assert made.code == 0, made.output
        (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / kind / "README.md").read_text(), re.DOTALL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PEFT says that there are several adapters
            exec(code.replace('("a cat")', '("a cat", num_inference_steps=2)'), {})  # noqa: S102 it is our own example
        with Image.open("cat.png") as picture:
            assert picture.size == (16, 16)
        Path("cat.png").unlink()
    bank = json.loads((tmp_path / "diffusers" / "bank.json").read_text())
    record = rounds(Home(world.home).server(), "demo")[-1]
    assert {int(c): about["sha256"] for c, about in bank["clusters"].items()} == {c: x.adapter.sha256 for c, x in record.clusters.items()}
    assert all(len(about["centroid"]) == 16 for about in bank["clusters"].values())


def test_the_bank_holds_no_cluster_that_nobody_is_in(
    ran: Ran, world: World, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `generate --auto` sends nobody there."""
    monkeypatch.setenv(HOME, str(world.home))
    home = Home(world.home)
    record = rounds(home.server(), "demo")[-1]
    left = {i: cluster.model_copy(update={"members": []}) if i == 0 else cluster for i, cluster in record.clusters.items()}
    write_bank(home, record.model_copy(update={"clusters": left}), str(base_folder), "peft", tmp_path, tmp_path)
    assert set(json.loads((tmp_path / "bank.json").read_text())["clusters"]) == {str(i) for i in record.clusters} - {"0"}
    assert not (tmp_path / "cluster-0").exists()


def test_a_client_s_export_is_its_personal_model(ran: Ran, world: World, base_folder: Path, tmp_path: Path) -> None:
    assert world.fedcore("export", "demo", "--client", "c01", "--format", "kohya", "--out", str(tmp_path / "mine")).code == 0
    record = rounds(Home(world.home).server(), "demo")[-1]
    (weight, ref), *others = record.model_of("c01")
    assert (weight, others) == (1.0, [])
    own = from_bytes(Home(world.home).server().get(ref))
    found = load_file(tmp_path / "mine" / "lora.safetensors")
    assert len(found) == 3 * len(own)
    pipeline = StableDiffusionPipeline.from_pretrained(base_folder)
    before = {name: pipeline.unet.get_submodule(name).weight.clone() for name in own}
    pipeline.load_lora_weights(tmp_path / "mine" / "lora.safetensors")
    pipeline.fuse_lora()
    for name, layer in own.items():
        after = pipeline.unet.get_submodule(name).base_layer.weight
        torch.testing.assert_close((after - before[name]).double(), dense(layer).view_as(after), rtol=1e-3, atol=1e-6)


def test_a_newcomer_gets_the_adapter_of_the_cluster_that_its_wish_is_nearest_to(ran: Ran, world: World, tmp_path: Path) -> None:
    record = rounds(Home(world.home).server(), "demo")[-1]
    for client, (_, wish) in CLIENTS.items():
        made = world.command("export", "demo", "--wish", f"{wish}, {CANARY}", "--format", "kohya", "--out", str(tmp_path / client))
        assert f"the wish is nearest to those of cluster {record.clients[client].cluster}" in made.output
        about = load_file(tmp_path / client / "lora.safetensors")
        home = record.clients[client].cluster
        assert home is not None
        own = from_bytes(Home(world.home).server().get(record.clusters[home].adapter))
        name = next(iter(own))
        up, down = (about[f"lora_unet_{name.replace('.', '_')}.lora_{end}.weight"].double() for end in ("up", "down"))
        torch.testing.assert_close(up.flatten(1) @ down.flatten(1), dense(own[name]).flatten(1), rtol=1e-3, atol=1e-6)
    drawn = draw(world, tmp_path / "wished.png", "--wish", CLIENTS["c01"][1])
    assert drawn.read_bytes() == draw(world, tmp_path / "given.png", "--cluster", str(record.clients["c01"].cluster)).read_bytes()


def test_a_run_s_adapters_are_used_with_no_other_weights_than_its_own(ran: Ran, world: World, base_folder: Path, tmp_path: Path) -> None:
    base, copy = Path(shutil.copytree(base_folder, tmp_path / "base")), World(tmp_path)
    shutil.copytree(world.home / "server", copy.home / "server")
    bound = copy.home / "server" / "runs" / "demo" / "federation.json"
    bound.write_text(bound.read_text().replace(str(base_folder), str(base)))
    commands = [
        ["generate", "demo", "--client", "c01", "--prompt", "x", "--steps", "1", "--out", str(tmp_path / "a.png")],
        ["export", "demo", "--client", "c01", "--out", str(tmp_path / "exported")],
        ["split", "ask", "demo", "--client", "c01", "--prompt", "x", "--out", str(tmp_path / "a.request")],
    ]
    for command in commands:
        assert copy.command(*command).code == 0
        shutil.rmtree(tmp_path / "exported", ignore_errors=True)
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"conv_out.bias": tensors["conv_out.bias"] + 1}, weights)
    digest.cache_clear()
    forget_base()
    for command in commands:
        refused = copy.command(*command)
        assert refused.code == 2
        assert f"base '{base}' has other weights here" in refused.output
    assert not (tmp_path / "exported").exists()
    forget_base()


def test_an_export_overwrites_nothing(ran: Ran, world: World, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    for arguments, reason in (
        (["--client", "c01", "--out", str(tmp_path / "full")], "is not an empty folder"),
        (["--client", "c99", "--out", str(tmp_path / "new")], "there is no client 'c99'"),
        (["--cluster", "0", "--format", "onnx", "--out", str(tmp_path / "new")], "there is no format 'onnx'"),
        (["--out", str(tmp_path / "new")], "give one of --client, --cluster, --wish and --global"),
    ):
        made = world.command("export", "demo", *arguments)
        assert (made.code, reason in made.output) == (2, True), made.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]
