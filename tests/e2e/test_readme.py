"""The commands of the README and of docs/pictures.md, run in order in an empty folder, on the tiny base instead of the embedded one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests import tiny
from tests.e2e.conftest import Ran, World
from tests.e2e.servers import clean_environment

ROOT = Path(__file__).parents[2]
README, PICTURES = ROOT / "README.md", ROOT / "docs" / "pictures.md"
ELSEWHERE = ("make demo", "make test", "python3 -m venv")  # the demo, this very suite, an installation


def commands(*pages: Path) -> list[str]:
    """Every line of every `sh` block but those seen elsewhere, without what stands behind `#`."""
    blocks = [b for page in pages for b in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)]
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.strip() and not line.startswith(ELSEWHERE)]


@pytest.fixture
def here(tmp_path: Path, world: World, ran: Ran, base_folder: Path) -> Path:
    """A folder where the demo has run, with two people's photos and `.venv/bin/fedcore`, which takes the tiny base for every run."""
    assert ran.code == 0
    shutil.copytree(world.home, tmp_path / "runs")
    shutil.copytree(world.root / "demo", tmp_path / "federations" / "demo")
    shutil.copy(world.file, tmp_path / "federations" / "demo.yaml")
    for person in ("anna", "ben"):
        folder = tmp_path / "photos" / person
        folder.mkdir(parents=True)
        for i in range(8):
            tiny.picture(person, i).save(folder / f"{i}.png")
            (folder / f"{i}.txt").write_text("a cat")
    program = tmp_path / ".venv" / "bin" / "fedcore"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\ncase "$1" in run) set -- "$@" --set base={base_folder};; import-adapter) set -- "$@" --base {base_folder};; esac\n'
        f'exec {sys.executable} -m flows.cli "$@"\n'
    )
    program.chmod(0o755)
    return tmp_path


@pytest.mark.slow
def test_every_command_does_what_it_says(here: Path, server: dict[str, str]) -> None:
    environment = clean_environment(**server, PATH=f"{here / '.venv' / 'bin'}:/usr/bin:/bin")
    found = commands(README, PICTURES)
    for told in ("generate", "import-images", "split begin"):
        assert any(told in line for line in found)
    for line in found:
        done = subprocess.run(["sh", "-c", line], cwd=here, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    for name in ("cat.png", "anna.png"):
        with Image.open(here / name) as picture:
            assert picture.size == (tiny.PIXELS, tiny.PIXELS)
    assert len(list((here / "runs" / "server" / "runs" / "demo").glob("round-*.json"))) >= 4
    assert (here / "runs" / "mine" / "results.json").exists()
