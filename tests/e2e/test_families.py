"""A federation of two rounds, a picture and an export on every family of base models, by the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from data.home import Home
from data.records import bound, rounds
from tests.e2e.conftest import write_world
from tests.e2e.servers import prefect_server
from tests.families import saved
from tests.fedcore.families.test_families import PROMPTS

TWO = {"c01": ("openmoji", "bold black outlines"), "c04": ("streamline", "soft pastel")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as api:
        yield {"PREFECT_API_URL": api}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl", "sd3", "flux"])
def test_the_same_federation_runs_on_every_family(tmp_path: Path, server: dict[str, str], family: str, precision: str) -> None:
    pipeline = saved(family, tmp_path / "base")
    world = write_world(tmp_path, tmp_path / "base", TWO)
    name = f"{family}-{precision}"
    settings = ["--set", f"precision={precision}", "--set", "training.accumulate=2", "--set", "training.checkpointing=true"]
    ran = world.fedcore("run", str(world.file), "--name", name, *settings, **server)
    assert ran.code == 0, ran.output
    store = Home(world.home).server()
    first, second = rounds(store, name)
    assert bound(store, name).precision == precision
    assert all(who.failed is None for who in second.clients.values())
    assert first.clusters[0].adapter != second.clusters[0].adapter
    drawn = world.fedcore("generate", name, "--client", "c01", "--prompt", "cat", "--steps", "2", "--out", str(tmp_path / "cat.png"))
    assert drawn.code == 0, drawn.output
    with Image.open(tmp_path / "cat.png") as picture:
        assert picture.size == (16, 16)
        assert json.loads(picture.info["fedcore"])["styles"][0]["style"] == "c01"
    made = world.fedcore("export", name, "--client", "c01", "--format", "diffusers", "--out", str(tmp_path / "mine"))
    assert made.code == 0, made.output
    before = pipeline(PROMPTS[:1], num_inference_steps=2, output_type="np", height=16, width=16, generator=torch.Generator().manual_seed(0))
    pipeline.load_lora_weights(tmp_path / "mine")
    after = pipeline(PROMPTS[:1], num_inference_steps=2, output_type="np", height=16, width=16, generator=torch.Generator().manual_seed(0))
    assert float(abs(before.images - after.images).max()) > 0
