"""Lays pictures out as a labelled grid: a row per model, a column per prompt."""

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 6


def gallery(rows: Mapping[str, Tensor], prompts: Sequence[str], *, enlarge: int = 2) -> Image.Image:
    """`rows` by name, each uint8 (prompts, 3, h, w), enlarged `enlarge` times."""
    first = next(iter(rows.values()))
    width, height = first.shape[3] * enlarge, first.shape[2] * enlarge
    font = ImageFont.load_default(14)
    left = 12 + max(int(font.getlength(name)) for name in rows)
    top = 26
    canvas = Image.new("RGB", (left + len(prompts) * (width + GAP), top + len(rows) * (height + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, prompt in enumerate(prompts):
        draw.text((left + column * (width + GAP) + width / 2, top / 2), _fitting(prompt, width, font), "black", font, anchor="mm")
    for row, (name, pictures) in enumerate(rows.items()):
        y = top + row * (height + GAP)
        draw.text((6, y + height / 2), name, "black", font, anchor="lm")
        for column, picture in enumerate(pictures):
            image = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.LANCZOS)
            canvas.paste(image, (left + column * (width + GAP), y))
    return canvas


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of a text as there is room for."""
    if font.getlength(text) <= width:
        return text
    return next((f"{text[:n]}…" for n in range(len(text) - 1, 0, -1) if font.getlength(f"{text[:n]}…") <= width), "…")


def contact_sheet(pictures: Tensor, names: Sequence[str], *, columns: int = 8, enlarge: int = 2) -> Image.Image:
    """Pictures, uint8 (n, 3, h, w), in rows of `columns`, each with its name below."""
    width, height = pictures.shape[3] * enlarge, pictures.shape[2] * enlarge
    font = ImageFont.load_default(14)
    rows = -(-len(names) // columns)
    canvas = Image.new("RGB", (columns * (width + GAP), rows * (height + 24)), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        x, y = (i % columns) * (width + GAP), (i // columns) * (height + 24)
        image = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.LANCZOS)
        canvas.paste(image, (x, y))
        draw.text((x + width / 2, y + height + 10), name, "black", font, anchor="mm")
    return canvas


def grid(pictures: Tensor) -> Image.Image:
    """Pictures, uint8 (n, 3, h, w), as they are, in a grid as square as may be."""
    columns = math.ceil(math.sqrt(len(pictures)))
    height, width = pictures.shape[2:]
    canvas = Image.new("RGB", (columns * (width + GAP) - GAP, -(-len(pictures) // columns) * (height + GAP) - GAP), "white")
    for i, picture in enumerate(pictures):
        at = (i % columns) * (width + GAP), (i // columns) * (height + GAP)
        canvas.paste(Image.fromarray(picture.permute(1, 2, 0).numpy()), at)
    return canvas
