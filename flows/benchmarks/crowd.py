"""A round of very many clients that have next to nothing to train: what the pipeline itself takes, and whether it stays small."""

import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from data.base.tiny import least_unet, save_base
from data.clients import remember_clients
from data.emoji.pack import drawings
from data.federations import client_folder, read_federation
from data.home import Home
from data.records import bind, read_round
from data.tables import Split, write_table
from flows.benchmarks.overhead import overhead

WISHES = {
    "openmoji": "bold black outlines, flat colours",
    "emojione-mono": "solid black silhouettes",
}


@dataclass(frozen=True)
class Crowd:
    """A federation's two rounds: `walls` in seconds, `peak` memory in bytes of the coordinating process since it began."""

    clients: int
    came_through: int
    walls: list[float]
    peak: int


def write_crowd(folder: Path, base: Path, clients: int, held_out: int) -> Path:
    """A federation file and its clients: one picture each to train one step on, and `held_out` others."""
    styles = {style: [d.png for d in drawings(style)[:40]] for style in WISHES}
    name = f"crowd-{clients}"
    ids = [f"c{i:06}" for i in range(clients)]
    for i, client in enumerate(ids):
        style = list(WISHES)[i % len(WISHES)]
        pictures = [styles[style][(i + p) % 40] for p in range(1 + held_out)]
        rows: list[tuple[bytes, str, Split | None]] = [(png, "a cat", "test" if p else "train") for p, png in enumerate(pictures)]
        write_table(folder / name / f"{client}.parquet", rows)
        about = {"statement": WISHES[style], "pictures": f"{client}.parquet"}
        (folder / name / f"{client}.yaml").write_text(yaml.safe_dump(about))
    values = {
        "base": str(base),
        "clients": ids,
        "rounds": 2,
        "adapter": {"rank": 2},
        "training": {"steps": 1, "batch": 1},
        "clustering": {"k": len(WISHES)},
        "evaluation": {"prompts": ["a cat"], "steps": 1, "timesteps": 1, "hybrids": 0},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def peak_memory() -> int:
    """The most memory this process ever had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def crowds(home: Home, sizes: list[int], held_out: int, folder: Path) -> Iterator[Crowd]:
    """Two rounds of each size, in the order given: the smaller first, since memory is a peak."""
    base = save_base(folder / "base", least_unet())
    for size in sizes:
        file = write_crowd(folder, base, size, held_out)
        federation = read_federation(file, [], None)
        bind(home.server(), federation)
        remember_clients(home, federation.name, client_folder(file))
        walls = [cost.wall for cost in overhead(home, federation.name)]
        record = read_round(home.server(), federation.name, len(walls))
        came_through = sum(c.training is not None for c in record.clients.values()) if record else 0
        yield Crowd(size, came_through, walls, peak_memory())
