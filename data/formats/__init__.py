"""How adapters leave for other programs, and come from them: one format a file, all safetensors."""

from data.formats.diffusers import write_diffusers
from data.formats.kohya import write_kohya
from data.formats.peft import write_peft
from data.formats.read import read_adapter
from data.formats.tensors import Made, Writer, made_for

FORMATS: dict[str, Writer] = {"peft": write_peft, "diffusers": write_diffusers, "kohya": write_kohya}

__all__ = ["FORMATS", "Made", "Writer", "made_for", "read_adapter"]
