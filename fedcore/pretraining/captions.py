"""Captions for the base: a subject's names, mostly with words for how it is drawn, so that style words carry a meaning."""

import random

STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "noto": ("soft gradients", "soft shading", "gently shaded", "smooth soft colours", "softly rounded and shaded"),
    "twemoji": ("flat colours", "plain flat colours", "simple flat shapes", "flat and clean", "flat design"),
    "emojione": ("muted flat colours", "early web icon", "classic web icon", "old web look"),
    "fxemoji": ("playful rounded shapes", "rounded flat shapes", "bright and playful", "soft flat shapes"),
    "fluent-flat": ("vivid flat colours", "saturated flat colours", "modern flat look", "vivid and flat"),
    "fluent": ("glossy gradients", "shiny gradients", "glossy look", "vivid glossy gradients", "shiny and colourful"),
    "line-art": (
        "black and white line art",
        "line art",
        "a line drawing",
        "thin black lines on white",
        "black ink lines",
        "pen and ink lines",
        "drawn with black lines only",
        "black contours without colour",
    ),
    "outlined": (
        "bold black outlines",
        "thick black outlines",
        "heavy outlines and flat colours",
        "bold outlines filled with colour",
        "cartoon outlines",
        "comic book outlines",
        "colours inside strong black contours",
        "thick dark borders and colour",
    ),
    "silhouette": (
        "black silhouette",
        "solid black shapes",
        "filled in solid black",
        "a black stencil",
        "a shadow shape",
        "dark silhouettes",
        "black cut out shapes",
        "solid black and white shapes",
    ),
    "grey": ("shades of grey", "greyscale", "monochrome", "grey without colour", "a grey picture"),
    "pastel": (
        "pastel colours",
        "pale pastel colours",
        "light delicate colours",
        "thin outlines and pastel colours",
        "fine outlines and pale colours",
        "thin delicate lines and soft pastel",
        "gentle light colours with fine lines",
        "soft pale tones with thin outlines",
    ),
}
"""Words for every base style and every drawn variant (`pictures.VARIANTS`)."""

PLAIN = ("{name}", "{name}", "a {name}", "a picture of a {name}", "an emoji of a {name}", "a drawing of a {name}")
STYLED = (
    "{name}, {style}",
    "{name}, {style}",
    "{name}, {style} and {other}",
    "{name} with {style}",
    "{name} in {style}",
    "a drawing of a {name} with {style}",
    "an icon of a {name}, {style}",
    "{style}, {name}",
    "please draw a {name} in {style}",
    "i want a {name} with {style}",
)
STYLE_ONLY = (
    "{style}",
    "{style}, {other}",
    "i like {style}",
    "i want my pictures in {style}",
    "i love icons with {style} and {other}",
    "please draw everything with {style}",
    "drawings with {style}, {other}",
    "my favourite style is {style}",
    "make it look like {style}",
    "pictures in {style} for me",
)


PLAIN_LOOK = "twemoji"
"""What a caption without style words means. A name alone that stood for six artists' hands would be drawn as their blurred mean."""
DRAWN = ("line-art", "outlined", "silhouette", "grey", "pastel")
"""The variants that are computed from artists' drawings."""


def caption(names: tuple[str, ...], look: str, draw: random.Random) -> str:
    """One caption for a picture of a subject (`names`, the usual one first) drawn in `look` (a key of `STYLE_WORDS`).

    A tenth is empty (for classifier-free guidance; never of a drawn variant), a tenth speaks of the style alone. The rest name
    the subject with the style, three quarters of those in `PLAIN_LOOK` without it.
    """
    dice = draw.random()
    words = STYLE_WORDS[look]
    style, other = draw.choice(words), draw.choice(words)
    if draw.random() < 0.2:
        style, other = style.replace("colour", "color"), other.replace("grey", "gray")
    if dice < 0.1 and look not in DRAWN:
        return ""
    if dice < 0.2:
        return draw.choice(STYLE_ONLY).format(style=style, other=other)
    name = names[0] if len(names) == 1 or draw.random() < 0.65 else draw.choice(names[1:])
    plain = look == PLAIN_LOOK and dice < 0.8
    return draw.choice(PLAIN if plain else STYLED).format(name=name, style=style, other=other)
