"""Loads the embedded style classifier, which names the hand that a picture looks drawn by."""

import json
from functools import lru_cache
from pathlib import Path

from safetensors.torch import load_model

from fedcore.judge import Judge

FOLDER = Path(__file__).parent / "judge"


@lru_cache(maxsize=1)
def load_judge() -> Judge:
    """The classifier, ready to name styles of 64×64 pictures."""
    about = json.loads((FOLDER / "judge.json").read_text())
    model = Judge(about["styles"])
    load_model(model, FOLDER / "judge.safetensors")
    return model.eval()
