"""Rebuilds the emoji pack byte for byte from npm packages: `python -m data.emoji.build [FOLDER]` (extra: `pack`).

Every SVG is rendered large, cropped to its drawing, centred on white and reduced to 64×64. Flags, clocks, signs, letters,
skin tones and gendered variants of the same person are left out; so is whatever fewer than two base styles draw. Of each
user style, the unseen subjects and a choice of the others (by hash) are kept.
"""

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import resvg_py
from PIL import Image, ImageChops
from rich.progress import track

from data.emoji.styles import NAMES_PACKAGE, STYLES, Style

SIZE = 64
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
RENDER = 256
MARGIN = 2  # pixels of white at 64×64 around the drawing's longer side
UNSEEN = 64  # subjects kept from everybody, only reported on
MOST_USER_PICTURES = 640  # a style; the base styles are kept whole, since the base model needs every picture
LEFT_OUT_CATEGORIES = {"Flags", "Symbols", "Component"}
LEFT_OUT = re.compile(
    r"^(man|woman|men|women|family|mrs|mx)-.+|-(facing-right|tone\d)$|(oclock|thirty)$|^(japanese-|keycap-)|^(kiss|couple-with-heart)-|^(person|people)-(with|in)-.*-(facing|wheelchair).*"
)

SCHEMA = pa.schema(
    [
        pa.field("image", pa.binary(), metadata={"is": "PNG, 64×64 RGB, drawing centred on white"}),
        pa.field("prompt", pa.string(), metadata={"is": "English name, lower case"}),
        pa.field("subject", pa.string(), metadata={"is": "stable id of what is drawn, equal in all styles"}),
        pa.field("synonyms", pa.list_(pa.string()), metadata={"is": "further English names"}),
        pa.field("category", pa.string(), metadata={"is": "group of subjects, such as 'Food & Drink'"}),
        pa.field("unseen", pa.bool_(), metadata={"is": "true: kept from base model and clients alike, only reported on"}),
    ]
)


def download(package: str, folder: Path) -> Path:
    """Fetch one npm package with the npm client and unpack it."""
    archive = subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True).stdout.split()[
        -1
    ]
    target = folder / archive.removesuffix(".tgz")
    with tarfile.open(folder / archive) as tar:
        tar.extractall(target, filter="data")
    return target / "package"


def slug(text: str) -> str:
    """'Hot Dog!' → 'hot-dog'."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def subjects(names: Path, reference: Path) -> dict[str, dict[str, Any]]:
    """Every subject of the pack by its id (the reference set's slug), with names and category."""
    by_code = {}
    for entry in json.loads((names / "emoji.json").read_text()):
        for code in (entry["unified"], entry["non_qualified"]):
            if code:
                by_code[code.lower().replace("-fe0f", "")] = entry
    found: dict[str, dict[str, Any]] = {}
    for code, subject in sorted(json.loads((reference / "chars.json").read_text()).items()):
        entry = by_code.get(code)
        if entry is None or entry["category"] in LEFT_OUT_CATEGORIES or LEFT_OUT.search(subject):
            continue
        prompt = subject.replace("-", " ")
        others = [slug(entry["name"]), *(slug(s) for s in entry["short_names"])]
        synonyms = sorted({o.replace("-", " ") for o in others if not re.search(r"\d", o)} - {prompt})
        found[subject] = {"prompt": prompt, "synonyms": synonyms, "category": entry["category"], "keys": [subject, *others]}
    return found


def drawings(package: Path, wanted: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The SVG text of each wanted subject that this set draws; sets name their icons differently, so several keys are tried."""
    icons = json.loads((package / "icons.json").read_text())
    bodies = icons["icons"]
    keyed: dict[str, dict[str, Any]] = {}
    for name in sorted(bodies):
        keyed.setdefault(name.replace("-", ""), bodies[name])
    for name, alias in sorted(icons.get("aliases", {}).items()):
        if alias["parent"] in bodies and set(alias) == {"parent"}:
            keyed.setdefault(name.replace("-", ""), bodies[alias["parent"]])
    found = {}
    for subject, about in wanted.items():
        for key in (variant for k in about["keys"] for variant in (k.replace("-", ""), k.replace("-", "") + "1")):
            if key in keyed:
                body = keyed[key]
                width, height = body.get("width", icons.get("width", 16)), body.get("height", icons.get("height", 16))
                found[subject] = f'<svg {NAMESPACES} viewBox="0 0 {width} {height}" color="#000">{body["body"]}</svg>'
                break
    return found


def draw(svg: str) -> bytes:
    """One SVG as a 64×64 RGB PNG: cropped to the drawing, centred on white."""
    picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=RENDER, height=RENDER, skip_system_fonts=True))))
    flat = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA")).convert("RGB")
    box = ImageChops.difference(flat, Image.new("RGB", flat.size, "white")).point(lambda v: 255 if v > 8 else 0).getbbox()
    if box is None:
        return b""
    drawing = flat.crop(box)
    side = max(drawing.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2))
    inner = SIZE - 2 * MARGIN
    canvas = Image.new("RGB", (SIZE, SIZE), "white")
    canvas.paste(square.resize((inner, inner), Image.Resampling.LANCZOS), (MARGIN, MARGIN))
    out = io.BytesIO()
    canvas.save(out, "PNG", optimize=True)
    return out.getvalue()


def by_hash(subject: str) -> str:
    """An order without meaning that is the same everywhere."""
    return hashlib.sha256(subject.encode()).hexdigest()


def unseen_subjects(about: dict[str, dict[str, Any]]) -> set[str]:
    """Subjects kept from everybody: several words, each of which at least two other kept names use, so that the base knows the words."""
    uses = Counter(word for entry in about.values() for word in set(entry["prompt"].split()))
    held: set[str] = set()
    for subject in sorted(about, key=by_hash):
        words = set(about[subject]["prompt"].split())
        if len(held) < UNSEEN and len(words) > 1 and all(uses[word] > 2 for word in words):
            held.add(subject)
            uses.subtract(words)
    return held


def chosen(style: Style, pngs: dict[str, bytes], unseen: set[str]) -> list[tuple[str, bytes]]:
    """Which pictures of a style are kept, by subject.

    Where a style draws two subjects with the same picture, the unseen one goes; outside the base styles (which may learn
    both names) only one stays, so that no client is tested on what it trained with.
    """
    first: dict[bytes, str] = {}
    for subject in sorted(pngs, key=lambda s: (s in unseen, s)):
        first.setdefault(pngs[subject], subject)
    single = {s: png for s, png in pngs.items() if png and (first[png] == s or (style.role == "base" and s not in unseen))}
    order = sorted(single) if style.role == "base" else sorted(single, key=lambda s: (s not in unseen, by_hash(s)))[:MOST_USER_PICTURES]
    return [(subject, single[subject]) for subject in sorted(order)]


def write(style: Style, svgs: dict[str, str], about: dict[str, dict[str, Any]], unseen: set[str], folder: Path) -> int:
    """Render one style and write its Parquet file; returns the number of its pictures."""
    with ProcessPoolExecutor() as pool:
        order = sorted(svgs)
        pngs = list(track(pool.map(draw, [svgs[s] for s in order], chunksize=16), description=f"{style.name:14}", total=len(order)))
    rows = chosen(style, dict(zip(order, pngs, strict=True)), unseen)
    table = pa.table(
        {
            "image": [png for _, png in rows],
            "prompt": [about[s]["prompt"] for s, _ in rows],
            "subject": [s for s, _ in rows],
            "synonyms": [about[s]["synonyms"] for s, _ in rows],
            "category": [about[s]["category"] for s, _ in rows],
            "unseen": [s in unseen for s, _ in rows],
        },
        schema=SCHEMA,
    ).replace_schema_metadata(
        {"style": style.name, "role": style.role, "licence": style.licence, "author": style.author, "source": style.source}
    )
    pq.write_table(table, folder / f"{style.name}.parquet", compression="zstd", compression_level=19)
    return len(rows)


def main(folder: Path) -> None:
    """Download, choose the subjects, render, write."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        packages = {style.name: download(style.package, Path(scratch)) for style in STYLES}
        about = subjects(download(NAMES_PACKAGE, Path(scratch)), packages["noto"])
        svgs = {style.name: drawings(packages[style.name], about) for style in STYLES}
        drawn = Counter(subject for style in STYLES if style.role == "base" for subject in svgs[style.name])
        about = {subject: entry for subject, entry in about.items() if drawn[subject] >= 2}
        unseen = unseen_subjects(about)
        for style in STYLES:
            kept = {subject: svg for subject, svg in svgs[style.name].items() if subject in about}
            sys.stdout.write(f"{style.name}: {write(style, kept, about, unseen, folder)} pictures\n")
        sys.stdout.write(f"{len(about)} subjects, of which unseen: {', '.join(sorted(unseen))}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
