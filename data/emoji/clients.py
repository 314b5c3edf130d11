"""Makes the demo's twelve client files from the pack: `python -m data.emoji.clients [FOLDER]`, byte for byte the same every time.

Each client draws one category of subjects in one user style. Its training, tuning and held-out pictures show different
subjects, no two clients of a style share one, and subjects that the pack keeps unseen are left out altogether.
"""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from data.emoji.pack import drawings
from data.tables import Split, write_table

TUNE, TEST = 8, 16


@dataclass(frozen=True)
class Persona:
    """One demo client: how many pictures of which category in which style it has, and what it says it wants."""

    id: str
    style: str
    category: str
    pictures: int
    device: str
    statement: str


PERSONAS = (
    Persona("c01", "openmoji", "Animals & Nature", 40, "laptop", "I want icons with bold black outlines, filled with flat colours"),
    Persona("c02", "openmoji", "Food & Drink", 24, "phone", "cartoon look please: thick dark contours around everything and plain colours inside"),
    Persona("c03", "openmoji", "Objects", 32, "workstation", "strong black borders and simple colours, like a comic book"),
    Persona("c04", "streamline", "Animals & Nature", 32, "laptop", "fine thin outlines and soft pastel colours"),
    Persona("c05", "streamline", "Objects", 48, "laptop", "light and delicate drawings, pale colours with thin lines"),
    Persona("c06", "streamline", "Food & Drink", 16, "phone", "gentle pastel tones, thin outlines, little sparkles"),
    Persona("c07", "fluent-mono", "Objects", 24, "laptop", "black and white line art, no colours at all"),
    Persona("c08", "fluent-mono", "Travel & Places", 40, "workstation", "draw it like pen and ink: only black lines on white paper"),
    Persona("c09", "fluent-mono", "Animals & Nature", 16, "phone", "simple line drawings in black, nothing coloured"),
    Persona("c10", "emojione-mono", "Food & Drink", 24, "laptop", "solid black silhouettes, like a stencil"),
    Persona("c11", "emojione-mono", "Travel & Places", 48, "workstation", "I like dark shapes filled in with black, like shadows or cut outs"),
    Persona("c12", "emojione-mono", "Animals & Nature", 32, "phone", "pictures as filled black silhouette shapes on white"),
)  # fmt: skip


def order(subject: str) -> str:
    """An order without meaning that is the same everywhere."""
    return hashlib.sha256(f"client {subject}".encode()).hexdigest()


def write_client(persona: Persona, folder: Path) -> None:
    """`<id>.yaml` and `<id>.parquet`."""
    mine = sorted((d for d in drawings(persona.style) if d.category == persona.category and not d.unseen), key=lambda d: order(d.subject))
    sizes: list[tuple[Split, int]] = [("test", TEST), ("tune", TUNE), ("train", persona.pictures)]
    wanted = [split for split, size in sizes for _ in range(size)]
    if len(mine) < len(wanted):
        have = f"{len(mine)} pictures of {persona.category} in {persona.style}"
        raise ValueError(f"{persona.id} needs {len(wanted)} pictures, the pack has {have}")
    rows = [(d.png, d.names[0], split) for d, split in zip(mine, wanted, strict=False)]
    write_table(folder / f"{persona.id}.parquet", [*rows])
    about = {"statement": persona.statement, "pictures": f"{persona.id}.parquet", "device": persona.device, "group": persona.style}
    note = f"# {persona.category} in the style of {persona.style}; licence and attribution in data/emoji/README.md\n"
    (folder / f"{persona.id}.yaml").write_text(note + yaml.safe_dump(about, sort_keys=False))


def main(folder: Path) -> None:
    """Write all twelve."""
    folder.mkdir(parents=True, exist_ok=True)
    for persona in PERSONAS:
        write_client(persona, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("federations/demo"))
