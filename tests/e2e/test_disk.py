"""A disk that runs full during a federation: one line says so, nothing is half-written, and freeing space is all it takes to go on."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import Ran, World, write_world

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):  # others write meanwhile
        while True:
            file.write(bytes(4096))
    return ballast


def fill_once_there_is(world: World, stage: str) -> None:
    """Take all room as soon as a job of that stage is finished."""
    end = time.monotonic() + 300
    while time.monotonic() < end and not any(k.startswith(f"{stage}/") for k in manifests(world)):
        time.sleep(0.01)
    fill(world.root)


def error_line(stopped: Ran) -> str:
    assert stopped.code == 1, stopped.output
    assert "Traceback" not in stopped.output
    (line,) = [line for line in stopped.output.splitlines() if line.startswith("error:")]
    return line


def test_a_disk_that_is_full_beforehand(disk: Path, base_folder: Path) -> None:
    world = write_world(disk, base_folder)
    ballast = fill(disk)
    assert f"no space left on the disk of {world.home}" in error_line(world.fedcore("run", str(world.file)))
    ballast.unlink()
    assert not list(world.root.rglob(".part-*"))


@pytest.mark.parametrize("stage", ["encode", "train", "aggregate"])
@pytest.mark.parametrize("all_of_it", [True, False], ids=["databases and store", "store"])
def test_a_disk_that_runs_full_after(stage: str, all_of_it: bool, disk: Path, base_folder: Path, server: dict[str, str]) -> None:
    world, environment = write_world(disk, base_folder), {} if all_of_it else server
    filling = threading.Thread(target=fill_once_there_is, args=(world, stage))
    filling.start()
    stopped = world.fedcore("run", str(world.file), **environment)
    filling.join()
    line = error_line(stopped)
    assert "no space left on the disk" in line or "quorum" in line
    assert "no space left on the disk" in stopped.output
    assert not list(world.home.rglob(".part-*"))
    before = manifests(world)
    assert before
    (disk / "ballast").unlink()
    done = world.fedcore("run", str(world.file), **environment)
    assert done.code == 0, done.output
    assert {k: manifests(world)[k] for k in before} == before


def manifests(world: World) -> dict[str, float]:
    """When each finished job was computed; every manifest can be read."""
    return {
        f"{p.parent.name}/{p.stem}": json.loads(p.read_text())["finished"] for p in (world.home / "server").rglob("manifests/**/*.json")
    }
