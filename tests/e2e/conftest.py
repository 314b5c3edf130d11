"""A tiny federation, run once per test session by the command line, as a user would."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from data.emoji.pack import drawings
from data.home import HOME
from data.tables import write_table
from tests.e2e.servers import clean_environment, prefect_server

CANARY = "quixotrope"
"""A word that only the clients' captions and statements contain."""

CLIENTS = {
    "c01": ("openmoji", "bold black outlines"),
    "c02": ("openmoji", "thick dark contours"),
    "c04": ("streamline", "soft pastel"),
    "c05": ("streamline", "pale thin lines"),
}


@dataclass(frozen=True)
class Ran:
    """A finished command."""

    code: int
    output: str


@dataclass(frozen=True)
class World:
    """A folder of its own for one federation: state, federation file, client files."""

    root: Path

    @property
    def home(self) -> Path:
        """FEDCORE_HOME."""
        return self.root / "runs"

    @property
    def file(self) -> Path:
        """The federation file."""
        return self.root / "demo.yaml"

    def fedcore(self, *arguments: str, **environment: str) -> Ran:
        """Run the command line here; it starts a Prefect server of its own, unless `environment` names one."""
        values = clean_environment(FEDCORE_HOME=str(self.home), **environment)
        command = [sys.executable, "-m", "flows.cli", *arguments]
        done = subprocess.run(command, env=values, capture_output=True, text=True, timeout=600, check=False)
        return Ran(done.returncode, done.stdout + done.stderr)

    def command(self, *arguments: str) -> Ran:
        """The same, in this process: for what runs no flow, seconds less."""
        from flows.cli import main

        told = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), redirect_stderr(told):
            patch.setattr(os, "environ", os.environ.copy() | {HOME: str(self.home)})
            patch.setattr(sys, "argv", ["fedcore", *arguments])
            with pytest.raises(SystemExit) as done:
                main()
        return Ran(int(done.value.code or 0), told.getvalue())


def write_world(root: Path, base: Path, clients: Mapping[str, tuple[str, str]] = CLIENTS) -> World:
    """Clients by style and wish, eight training pictures each; the statements and captions carry the canary."""
    values = {
        "base": str(base),
        "clients": sorted(clients),
        "rounds": 2,
        "quorum": 0.5,
        "adapter": {"rank": 4},
        "training": {"steps": 4, "batch": 4},
        "clustering": {"on": "requirements", "k": 2, "min_size": 1, "warmup": 0},
        "personal": {"method": "last"},
        "evaluation": {"prompts": ["cat", "pizza"], "steps": 3, "timesteps": 2, "hybrids": 1},
    }
    (root / "demo.yaml").write_text(yaml.safe_dump(values))
    for i, (client, (style, wish)) in enumerate(sorted(clients.items())):
        mine = [d for d in drawings(style) if not d.unseen][12 * i : 12 * i + 12]
        splits = ["test"] * 2 + ["tune"] * 2 + ["train"] * 8
        rows = [(d.png, f"{d.names[0]} {CANARY}", split) for d, split in zip(mine, splits, strict=True)]
        write_table(root / "demo" / f"{client}.parquet", rows)  # type: ignore[arg-type]
        about = {"statement": f"{wish}, {CANARY}", "pictures": f"{client}.parquet", "group": style}
        (root / "demo" / f"{client}.yaml").write_text(yaml.safe_dump(about))
    return World(root)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> World:
    """Files only; nothing has run."""
    return write_world(tmp_path_factory.mktemp("federation"), base_folder)


@pytest.fixture(scope="session")
def ran(world: World) -> Ran:
    """Two rounds, on a Prefect server that the command brings up itself."""
    return world.fedcore("run", str(world.file))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variable that lets a command use one standing Prefect server, which saves the time of starting its own."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as api:
        yield {"PREFECT_API_URL": api}
