"""Captions for the base: a subject's names, mostly with words for how it is drawn, so that style words carry a meaning."""

import random

STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "noto": (
        "soft gradients",
        "soft|gentle shading",
        "gently|softly|smoothly shaded",
        "smooth soft colours",
        "softly rounded and shaded",
        "soft|smooth|gentle|subtle gradients|shading|shadows|transitions",
    ),
    "twemoji": (
        "flat colours",
        "plain|simple|clean flat colours|shapes|fills",
        "flat and clean|simple|plain",
        "flat|simple design|graphics|icons",
        "flat|plain colours without|and_no|with_no shading|gradients",
    ),
    "emojione": (
        "muted flat colours",
        "early|classic|old web|internet icon|icons|look",
        "muted|subdued|dull|earthy colours|tones",
        "old|retro web|chat look|style",
    ),
    "fxemoji": (
        "playful rounded shapes",
        "rounded flat shapes",
        "bright|cheerful|happy and playful|fun",
        "soft flat shapes",
        "round|rounded|bubbly|chubby|playful|friendly shapes|forms",
    ),
    "fluent-flat": (
        "vivid flat colours",
        "saturated|vivid|bright|intense|strong flat colours",
        "modern flat|clean look|design",
        "vivid and flat|modern",
    ),
    "fluent": (
        "glossy gradients",
        "glossy|shiny|polished|gleaming gradients|surfaces|look|plastic|balloons",
        "vivid|rich glossy gradients",
        "shiny|glossy and colourful|vivid|polished",
        "3d|three-dimensional|rendered look|objects|models|render",
    ),
    "line-art": (
        "black and white line art",
        "line|outline art|drawing|drawings|sketch|sketches|work",
        "a line|pen|ink drawing|sketch|doodle",
        "thin|fine|simple|clean|plain black lines|strokes on white|paper",
        "black ink|pen lines|strokes|sketches",
        "pen|pencil and|or ink lines|drawings|sketches",
        "drawn|sketched|traced with|in black|ink lines|strokes only",
        "black|dark contours|outlines|lines without|and_no|with_no colour|colours|fill|filling|shading",
        "only|just|nothing_but lines|outlines|contours|strokes",
        "uncoloured|colourless|unpainted|hollow|empty|blank outlines|drawings|shapes|lines",
        "colouring|coloring book|page|sheet drawings|outlines|lines",
        "no|without colour|colours at_all,|anywhere,|inside, just|only lines|outlines|contours",
        "black|ink on white|paper lines|outlines|drawing|strokes",
        "hand-drawn|scribbled|doodled|wire|bare lines|strokes|outlines",
        "nothing coloured,|filled_in,|painted, just|only black|ink lines|outlines",
    ),
    "outlined": (
        "bold black outlines",
        "bold|thick|heavy|strong|fat|chunky|wide|broad black|dark outlines|contours|borders|edges|lines",
        "heavy|thick|bold outlines and|with flat|plain|simple|solid|bright colours|fills|colour",
        "bold|thick outlines|borders|contours filled|coloured with|in colour|colours",
        "cartoon|comic|sticker outlines|look|style|drawings|contours",
        "comic book|strip outlines|drawings|look|style",
        "colours|colour inside|within|behind|between strong|thick|bold|heavy black|dark contours|outlines|lines|borders",
        "thick|wide|strong dark borders|frames|edges|rims and|with colour|colours",
        "a thick|bold|heavy|strong black|dark line|outline|border|edge around|round everything|each_shape|every_thing|all_shapes",
        "everything|shapes|objects|things outlined|framed|bordered|edged|traced in|with thick|bold|heavy|strong black|dark_lines",
        "plain|flat|simple|solid colours|fills|colour with|and|inside thick|bold|heavy|strong dark|black outlines|borders|contours",
        "drawn|inked|traced with a thick|fat|bold|heavy marker|felt_pen|brush and|then coloured|filled_in|painted",
        "stickers|cartoons|comics|icons with thick|bold|heavy|dark edges|outlines|contours",
    ),
    "silhouette": (
        "black silhouette",
        "solid|full|filled|plain|pure|dark black shapes|silhouettes|forms|figures|glyphs|symbols",
        "filled in|with solid|pure|plain black",
        "a|like_a black|solid stencil|stamp|shadow|cut-out|cutout",
        "a|like_a shadow shape|puppet|figure|play|theatre",
        "dark|black|solid|filled silhouettes|shadows|shapes|profiles",
        "black cut_out|paper shapes|figures",
        "solid black and white shapes|symbols|signs",
        "completely|entirely|all|totally|fully black|dark|filled|inked shapes|inside|figures|icons",
        "shadows|silhouettes|stencils|stamps|pictograms|cut-outs on|against white|paper|light",
        "black|dark shapes|figures|forms|icons filled|blacked|inked|painted in|out|solid",
        "one|a_single|a_solid block|mass|patch|blob of black|ink|darkness",
        "no|without|hardly_any lines|details|outlines, only|just black|solid|dark shapes|silhouettes|areas",
        "like shapes|figures against|before the light|sun|sky|window",
    ),
    "grey": (
        "shades of grey",
        "greyscale|monochrome|grey",
        "grey without|and no colour",
        "a grey|monochrome picture|image|photo",
        "light|dark|soft|pale greys|grey_tones|grey_shades",
    ),
    "pastel": (
        "pastel colours",
        "pale|soft|light|gentle|faint|delicate pastel colours|tones|tints|shades|hues",
        "light|pale|soft|gentle|washed-out|faded|milky|powdery|airy delicate|soft|quiet colours|tones|tints|hues",
        "thin|fine|delicate|slender|dainty|hairline outlines|lines|contours|strokes and|with pastel|pale|soft|light colours|tones|tints",
        "fine|thin outlines|lines and|with pale|light colours|tones",
        "thin|fine delicate|light lines|outlines and|with soft|gentle pastel|pale_colours|light_colours",
        "gentle|soft|pale light|delicate colours|tones with|and fine|thin|slim lines|outlines",
        "soft|gentle pale|light tones|tints|shades with|and thin|fine|narrow outlines|lines|contours",
        "pastel|pale|light|soft pink|blue|green|mint|rose|peach|lilac|cream and|with thin|fine|delicate lines|outlines",
        "dainty|delicate|tender|sweet|dreamy little|small|light drawings|icons|pictures in|with pale|soft|pastel|light colours|tones",
        "sugary|candy|baby|watery|diluted|bleached|pale colours|tones|shades",
        "nothing bright,|dark,|loud,|heavy, just|only pale|soft|light|gentle colours|tones",
    ),
}
"""Words for every base style and every drawn variant (`pictures.VARIANTS`): phrases with alternatives, `thick|rather_bold lines`."""


def phrase(look: str, draw: random.Random) -> str:
    """One way to name a look."""
    return " ".join(draw.choice(word.split("|")) for word in draw.choice(STYLE_WORDS[look]).split()).replace("_", " ")


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
    "{style} please",
    "{style}, please: {other}",
    "i like {style}",
    "i want my pictures in {style}",
    "i'd like {style}",
    "i love icons with {style} and {other}",
    "please draw everything with {style}",
    "draw it with {style}, {other}",
    "drawings with {style}, {other}",
    "my favourite style is {style}",
    "make it look like {style}",
    "pictures in {style} for me",
    "i'm after something with {style}",
    "could you make them in {style}?",
    "everything should be {style}, {other}",
    "give me {style} and {other}",
    "something with {style}, maybe {other}",
    "simple icons, {style}",
    "emoji with {style}, {other}",
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
    style, other = phrase(look, draw), phrase(look, draw)
    if draw.random() < 0.2:
        style, other = style.replace("colour", "color"), other.replace("grey", "gray")
    if dice < 0.1 and look not in DRAWN:
        return ""
    if dice < 0.2:
        return draw.choice(STYLE_ONLY).format(style=style, other=other)
    name = names[0] if len(names) == 1 or draw.random() < 0.65 else draw.choice(names[1:])
    plain = look == PLAIN_LOOK and dice < 0.8
    return draw.choice(PLAIN if plain else STYLED).format(name=name, style=style, other=other)
