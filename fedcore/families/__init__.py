"""Families of base models, by the pipeline class that their folders name. A new one is one file and one line."""

from fedcore.base import Family
from fedcore.families.flux import FLUX
from fedcore.families.stable_diffusion import STABLE_DIFFUSION
from fedcore.families.stable_diffusion_3 import STABLE_DIFFUSION_3
from fedcore.families.stable_diffusion_xl import STABLE_DIFFUSION_XL

FAMILIES: dict[str, Family] = {f.pipeline: f for f in (STABLE_DIFFUSION, STABLE_DIFFUSION_XL, STABLE_DIFFUSION_3, FLUX)}
