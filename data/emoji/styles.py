"""Which art styles the pack holds, who drew them, and what each may be used for."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["base", "user", "reserve"]


@dataclass(frozen=True)
class Style:
    """One artist's set of drawings.

    `role` keeps the styles apart: only `base` styles train the base model, `user` styles belong to the demo's clients,
    `reserve` styles are further users for benchmarks. `package` is the npm package (`name@version`) it is rendered from.
    """

    name: str
    role: Role
    package: str
    licence: str
    author: str
    source: str
    looks: str


STYLES: tuple[Style, ...] = (
    Style("noto", "base", "@iconify-json/noto@1.2.9", "Apache-2.0", "Google Inc", "https://github.com/googlefonts/noto-emoji", "soft gradients"),
    Style("twemoji", "base", "@iconify-json/twemoji@1.2.5", "CC-BY-4.0", "Twitter", "https://github.com/jdecked/twemoji", "flat colours"),
    Style("emojione", "base", "@iconify-json/emojione@1.2.3", "CC-BY-4.0", "Emoji One", "https://github.com/EmojiTwo/emojitwo", "flat, early web"),
    Style("fxemoji", "base", "@iconify-json/fxemoji@1.2.2", "Apache-2.0", "Mozilla", "https://github.com/mozilla/fxemoji", "flat, rounded"),
    Style("fluent-flat", "base", "@iconify-json/fluent-emoji-flat@1.2.6", "MIT", "Microsoft Corporation", "https://github.com/microsoft/fluentui-emoji", "flat, saturated"),
    Style("fluent", "base", "@iconify-json/fluent-emoji@1.2.7", "MIT", "Microsoft Corporation", "https://github.com/microsoft/fluentui-emoji", "glossy gradients"),
    Style("openmoji", "user", "@iconify-json/openmoji@1.2.29", "CC-BY-SA-4.0", "OpenMoji", "https://github.com/hfg-gmuend/openmoji", "bold black outlines, flat colour"),
    Style("streamline", "user", "@iconify-json/streamline-emojis@1.2.4", "CC-BY-4.0", "Streamline", "https://github.com/webalys-hq/streamline-vectors", "thin outlines, pastel, sparkles"),
    Style("fluent-mono", "user", "@iconify-json/fluent-emoji-high-contrast@1.2.6", "MIT", "Microsoft Corporation", "https://github.com/microsoft/fluentui-emoji", "black line art"),
    Style("emojione-mono", "user", "@iconify-json/emojione-monotone@1.2.1", "CC-BY-4.0", "Emoji One", "https://github.com/EmojiTwo/emojitwo", "black silhouettes and line"),
    Style("noto-blob", "reserve", "@iconify-json/noto-v1@1.2.5", "Apache-2.0", "Google Inc", "https://github.com/googlefonts/noto-emoji", "blob faces, gradients"),
    Style("emojione-v1", "reserve", "@iconify-json/emojione-v1@1.2.3", "CC-BY-SA-4.0", "Emoji One", "https://github.com/joypixels/emojione-legacy", "glossy, early web"),
)  # fmt: skip

NAMES_PACKAGE = "emoji-datasource@16.0.0"
"""MIT; English names, short names and categories."""
