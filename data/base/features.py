"""Loads the embedded feature network, which sets of pictures are compared by."""

import json
from functools import lru_cache
from pathlib import Path

from safetensors.torch import load_model

from fedcore.features import Features

FOLDER = Path(__file__).parent / "features"


@lru_cache(maxsize=1)
def load_features() -> Features:
    """The network, ready for 64×64 pictures."""
    about = json.loads((FOLDER / "features.json").read_text())
    model = Features(about["hands"], about["subjects"])
    load_model(model, FOLDER / "features.safetensors")
    return model.eval()
