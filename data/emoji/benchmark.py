"""Makes a harder federation than the demo from the pack: many uneven clients in six styles, some of whom ask for the wrong thing.

`python -m data.emoji.benchmark FOLDER [SEED]`. Everything is drawn from the seed, byte for byte the same every time.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import yaml

from data.emoji.clients import order
from data.emoji.pack import Drawing, drawings
from data.emoji.styles import STYLES
from data.tables import Split, write_table
from fedcore.seeds import derive

USERS = tuple(style.name for style in STYLES if style.role != "base")
A_STYLE = 7
"""Clients of each style."""
TRAIN, LEAST, TUNE, TEST = 20, 6, 4, 8
"""Pictures of a client: to train on, on average and at least; to choose by; to report."""
WRONG, VAGUE = 0.15, 0.1
"""Shares of the clients that ask for another style than they draw in, and for nothing in particular."""
RESERVED = 24
"""Drawings of each style that no client has: for generalisation."""
DEVICES = {"phone": 0.5, "laptop": 1 / 3, "workstation": 1 / 6}
STATEMENTS = Path(__file__).parent / "statements.yaml"
PARAPHRASES = Path("federations/paraphrases.yaml")


@dataclass(frozen=True)
class User:
    """One client: its style, the number of its training pictures, its device, and what it says."""

    id: str
    style: str
    pictures: int
    device: str
    statement: str


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator for one purpose."""
    return np.random.Generator(np.random.PCG64(derive(seed, "benchmark", *names)))


def statements(paraphrases: Path = PARAPHRASES) -> dict[str, list[str]]:
    """What users of each style may say, and what says nothing (`vague`)."""
    known: dict[str, list[str]] = yaml.safe_load(STATEMENTS.read_text(encoding="utf-8"))
    styles = ("openmoji", "streamline", "fluent-mono", "emojione-mono")
    for each in yaml.safe_load(paraphrases.read_text(encoding="utf-8"))["sets"]:
        for i, client in enumerate(sorted(each)):
            known.setdefault(styles[i // 3], []).append(each[client])
    return known


def sizes(seed: int, style: str) -> list[int]:
    """Training pictures of a style's clients: Dirichlet(1) shares of what is beyond the least."""
    shares = generator(seed, "sizes", style).dirichlet(np.ones(A_STYLE))
    return [LEAST + int(share * A_STYLE * (TRAIN - LEAST)) for share in shares]


def users(seed: int, wrong: float, vague: float) -> list[User]:
    """All clients; the shares `wrong` and `vague` of them state another style's wish, or nothing of a look."""
    said, out = statements(), list[User]()
    lot = generator(seed, "devices")
    for s, style in enumerate(USERS):
        own = generator(seed, "statements", style).permutation(said[style])
        for i, pictures in enumerate(sizes(seed, style)):
            device = str(lot.choice(list(DEVICES), p=list(DEVICES.values())))
            out.append(User(f"b{s * A_STYLE + i + 1:02}", style, pictures, device, str(own[i % len(own)])))
    draw = generator(seed, "mistakes")
    mistaken = draw.permutation(len(out))
    n_wrong, n_vague = round(wrong * len(out)), round(vague * len(out))
    for at, i in enumerate(mistaken[: n_wrong + n_vague]):
        others = [style for style in USERS if style != out[i].style]
        pool = said[others[int(draw.integers(len(others)))]] if at < n_wrong else said["vague"]
        user = out[i]
        out[i] = User(user.id, user.style, user.pictures, user.device, pool[int(draw.integers(len(pool)))])
    return out


def _known(style: str) -> list[Drawing]:
    """A style's drawings without those of subjects that nobody may train on, always in the same order."""
    return sorted((d for d in drawings(style) if not d.unseen), key=lambda d: order(d.subject))


def reserved(style: str) -> list[Drawing]:
    """What no client has of a style, whatever the seed."""
    return _known(style)[:RESERVED]


def shuffled(style: str, seed: int) -> list[Drawing]:
    """What clients may have of a style, in a seed's order."""
    rest = _known(style)[RESERVED:]
    return [rest[int(i)] for i in generator(seed, "subjects", style).permutation(len(rest))]


def write_clients(folder: Path, seed: int, *, wrong: float = WRONG, vague: float = VAGUE) -> list[str]:
    """`<id>.yaml` and `<id>.parquet` of every client; returns their ids."""
    folder.mkdir(parents=True, exist_ok=True)
    left = {style: shuffled(style, seed) for style in USERS}
    made = users(seed, wrong, vague)
    for user in made:
        splits: list[tuple[Split, int]] = [("test", TEST), ("tune", TUNE), ("train", user.pictures)]
        wanted = [split for split, size in splits for _ in range(size)]
        mine, left[user.style] = left[user.style][: len(wanted)], left[user.style][len(wanted) :]
        write_table(folder / f"{user.id}.parquet", [(d.png, d.names[0], split) for d, split in zip(mine, wanted, strict=True)])
        about = {"statement": user.statement, "pictures": f"{user.id}.parquet", "device": user.device, "group": user.style}
        note = f"# Drawings in the style of {user.style}; licence and attribution in data/emoji/README.md\n"
        (folder / f"{user.id}.yaml").write_text(note + yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=1000))
    return [user.id for user in made]


POOL = "pool"
"""The client that has everybody's pictures: what could be learnt if they were collected."""


def write_pool(folder: Path, clients: list[str]) -> None:
    """The pictures of all `clients` whose files lie in `folder`, as one more client's."""
    rows: list[tuple[bytes, str, Split | None]] = []
    for client in clients:
        table = pq.read_table(folder / f"{client}.parquet").to_pylist()
        rows += [(r["image"], r["prompt"], r["split"]) for r in table if r["split"] == "train"]
    write_table(folder / f"{POOL}.parquet", rows)
    about = {"statement": "everybody's pictures", "pictures": f"{POOL}.parquet"}
    note = "# Drawings of all styles; licences and attribution in data/emoji/README.md\n"
    (folder / f"{POOL}.yaml").write_text(note + yaml.safe_dump(about, sort_keys=False))


if __name__ == "__main__":
    write_clients(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
