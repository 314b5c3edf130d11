"""What the documents say was fixed is what lies in the repository."""

import hashlib
import json
from pathlib import Path

from data.base.folder import EMBEDDED, digest

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
