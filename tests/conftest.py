"""What all tests share: one thread, reproducible examples, and one tiny base model."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from data.base.load import load_base
from fedcore.base import BaseModel
from tests import tiny

torch.set_num_threads(1)
settings.register_profile("fedcore", deadline=None, max_examples=20, derandomize=True, database=None)
settings.load_profile("fedcore")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in two processes: those that look at the one federation go first and stay together, others by their file."""
    together = {item for item in items if "world" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item not in together)
    for item in items:
        item.add_marker(pytest.mark.xdist_group("federation" if item in together else item.path.name))


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion on disk."""
    return tiny.save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def base(base_folder: Path) -> BaseModel:
    """The tiny Stable Diffusion, loaded as every stage loads it."""
    return load_base(str(base_folder))
