"""What the documents say was fixed is what lies in the repository; what they say of files is what the code takes."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from data.base.folder import EMBEDDED, digest
from data.clients import ClientFile
from fedcore.config import Federation
from fedcore.config.parts import BeginConfig

ROOT = Path(__file__).parents[2]


def test_the_base_is_the_one_that_was_measured_and_that_settings_were_chosen_for() -> None:
    weights = digest(EMBEDDED)
    assert json.loads((ROOT / "data/base/figures.json").read_text())["weights_sha256"] == weights
    assert weights in (ROOT / "data/base/README.md").read_text()
    assert weights in (ROOT / "docs/demo.md").read_text()


def test_the_statements_are_those_that_settings_were_chosen_for() -> None:
    files = sorted((ROOT / "federations/demo").glob("c*.yaml"))
    assert len(files) == 12
    statements = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    assert statements in (ROOT / "docs/demo.md").read_text()


FILES = ROOT / "docs/files.md"


def keys_of(part: type[BaseModel], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a federation's file, with its default; None: there is none."""
    for name, field in part.model_fields.items():
        inner = BeginConfig if name == "begin" else field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys_of(inner, f"{before}{name}.")
        else:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            yield before + name, list(default) if isinstance(default, tuple) else default


def test_every_key_of_a_federation_is_told_with_its_default() -> None:
    told = dict(re.findall(r"^\| `([a-z_0-9.]+)` \| (.+?) \| ", FILES.read_text(), re.MULTILINE))
    assert told.pop("name") == "the file's"
    defaults = {key: None if text == "–" else yaml.safe_load(text.strip("`")) for key, text in told.items()}
    assert defaults == {key: default for key, default in keys_of(Federation) if key != "name"}


def test_the_examples_of_files_are_taken() -> None:
    federation, client = re.findall(r"^```yaml\n(.*?)^```", FILES.read_text(), re.MULTILINE | re.DOTALL)
    assert Federation.model_validate({"name": "mine", **yaml.safe_load(federation)}).clients == ("anna", "ben")
    assert ClientFile.model_validate(yaml.safe_load(client)).device == "laptop"
