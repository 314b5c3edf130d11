"""Enrolment: whatever is wrong with a client's files costs that client its place, and its reason quotes nothing of them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.home import CLIENTS, HOME
from tasks.enrol import compute
from tests import tiny

WORD = "quixotrope"
STATEMENT = "statement: bold\npictures: c1.parquet\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One client in order."""
    made = tmp_path / WORD
    made.mkdir()
    monkeypatch.setenv(CLIENTS, str(made))
    monkeypatch.setenv(HOME, str(tmp_path / "runs"))
    (made / "c1.yaml").write_text(STATEMENT)
    table(made)
    return made


def table(folder: Path, **columns: object) -> None:
    blob = tiny.png("a", 0)
    pq.write_table(pa.table({"image": [blob] * 3, "prompt": [WORD] * 3, **columns}), folder / "c1.parquet")


def test_a_client_in_order_tells_what_the_server_may_know(folder: Path) -> None:
    me = compute("c1")
    assert (me.status, me.device, len(me.digest)) == ("ok", "laptop", 64)
    assert WORD not in me.model_dump_json()


@pytest.mark.parametrize(
    "text",
    [
        f"statement: [{WORD}]\npictures: c1.parquet\n",
        f"statement: {WORD}: bold\npictures: c1.parquet\n",
        f"{WORD}: bold\n{STATEMENT}",
        f"statement: *{WORD}\npictures: c1.parquet\n",
        f"statement: !{WORD} x\npictures: c1.parquet\n",
        f"statement: bold\npictures: /home/{WORD}/c2.parquet\n",
        f"statement: bold\npictures: my {WORD} with ben.parquet\n",
        f"statement: bold\npictures: {WORD} photos/../../c2.parquet\n",
        f"- {WORD}\n",
    ],
)
def test_a_wrong_client_file_is_not_quoted(folder: Path, text: str) -> None:
    (folder / "c1.yaml").write_text(text)
    me = compute("c1")
    assert me.status == "failed"
    assert me.reason
    assert WORD not in me.reason, me.reason


def test_a_wrong_table_is_not_quoted(folder: Path) -> None:
    table(folder, split=[WORD] * 3)
    assert WORD not in str(compute("c1").reason)
    latin = pa.array([WORD.encode() + b"\xe9"] * 3, pa.binary()).view(pa.string())
    table(folder, prompt=latin)
    me = compute("c1")
    assert "not UTF-8" in str(me.reason)
    assert WORD not in str(me.reason)


def test_files_that_cannot_even_be_opened_cost_only_that_client(folder: Path) -> None:
    (folder / "c1.yaml").unlink()
    (folder / "c1.yaml").mkdir()
    me = compute("c1")
    assert (me.status, me.reason) == ("failed", "ConfigError: not readable (Is a directory)")


def test_a_side_that_serves_no_clients_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CLIENTS, raising=False)
    assert "serves no clients" in str(compute("c1").reason)
