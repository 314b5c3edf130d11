"""docs/your-pictures.md, command by command, each in the folder that it names, on one machine."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from data.emoji.pack import drawings
from tests.e2e.servers import clean_environment, free_port, process, wait_for

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "your-pictures.md"
STYLES = {"anna": "openmoji", "ben": "streamline"}
PHOTOS = 12


def blocks() -> list[tuple[str, bool, list[str]]]:
    """The folder of every block, whether its command stays on, and its lines."""
    found = re.findall(r"^```sh in (\w+)(, stays on)?\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [(folder, bool(on), text.splitlines()) for folder, on, text in found]


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """The three folders; Anna's photos have captions and are large, Ben's have none."""
    program = tmp_path / "bin" / "fedcore"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m flows.cli "$@"\n')
    program.chmod(0o755)
    (tmp_path / "coordinator").mkdir()
    for who, style in STYLES.items():
        photos = tmp_path / who / "photos"
        photos.mkdir(parents=True)
        for drawing in drawings(style)[:PHOTOS]:
            file = photos / f"{drawing.subject}.png"
            file.write_bytes(drawing.png)
            if who == "anna":
                with Image.open(file) as picture:
                    picture.convert("RGB").resize((300, 200)).save(file.with_suffix(".jpg"))
                file.unlink()
                file.with_suffix(".txt").write_text(drawing.names[0])
    yield tmp_path


def test_every_command_does_what_the_page_says(places: Path) -> None:
    port, pages = free_port(), free_port()
    with ExitStack() as stack:
        for number, (folder, stays, lines) in enumerate(blocks()):
            at = places / folder
            environment = clean_environment(PATH=f"{places / 'bin'}:/usr/bin:/bin", PREFECT_HOME=str(at / "prefect"))
            for line in (each.replace("4200", str(port)) for each in lines):
                if not stays:
                    done = subprocess.run(
                        ["sh", "-c", line], cwd=at, env=environment, capture_output=True, text=True, timeout=600, check=False
                    )
                    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                    continue
                up = line.endswith("fedcore up")
                ports = f"--port {port} --mlflow-port {pages}" if up else ""
                stack.enter_context(process(at / f"{number}.log", environment, "sh", "-c", f"cd {at} && {line} {ports}"))
                if up:
                    wait_for(f"http://127.0.0.1:{port}/api/health")
                    deployed(port)
        for picture, size in {"anna/cat.png": (64, 64), "coordinator/hybrid.png": (134, 134), "coordinator/asked.png": (64, 64)}.items():
            with Image.open(places / picture) as image:
                assert image.size == size
        assert (places / "anna" / "anna-lora").is_dir()
        assert (places / "coordinator" / "runs" / "ours" / "results.json").exists()


def deployed(port: int, seconds: float = 120.0) -> None:
    """Wait until the pools that sites ask for are there, and what they are asked to run."""
    import httpx

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = [httpx.post(f"http://127.0.0.1:{port}/api/{what}/filter", json={}).json() for what in ("work_pools", "deployments")]
        if len(found[0]) >= 3 and len(found[1]) >= 4:
            return
        time.sleep(0.5)
    raise TimeoutError("nothing is deployed")
