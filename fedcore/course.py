"""How a picture is drawn, and within what bounds; light to import, for those that only pass it on."""

from dataclasses import dataclass

MOST_STEPS, MOST_PIXELS = 1000, 4096
MOST_GUIDANCE = 100.0
"""Pictures burn out long before."""


@dataclass(frozen=True)
class Course:
    """How pictures are drawn: `steps` of a `scheduler` (None: the base's own), `guidance`, `size` in pixels (None: the base's).

    Heun's and PNDM's schedulers ask the denoiser more often than that: see `fedcore.sampling.length`.
    """

    steps: int
    guidance: float
    scheduler: str | None = None
    size: int | None = None
