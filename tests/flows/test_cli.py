"""The command line's answers to wrong input: one line that says what, where and what to do; exit code 2; nothing left behind."""

import os
import sys
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from data.home import HOME, Home
from data.records import bind
from fedcore.config import federation as read
from flows.cli import main, runs
from flows.cli.app import server_missing
from flows.recovery import STAGES
from tests import tiny


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOME, str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path


def fedcore(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and everything printed."""
    monkeypatch.setattr(sys, "argv", ["fedcore", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out + said.err


def test_help_names_every_stage() -> None:
    assert runs.STAGES.replace(" or ", ", ").split(", ") == list(STAGES)


def federation(here: Path, base_folder: Path, **values: object) -> None:
    """`f.yaml` with one client `c1` of three pictures."""
    (here / "f.yaml").write_text(yaml.safe_dump({"base": str(base_folder), "clients": ["c1"], **values}))
    (here / "f").mkdir()
    (here / "f" / "c1.yaml").write_text("statement: bold\npictures: c1.parquet\n")
    Image.new("RGB", (8, 8), "red").save(here / "red.png")
    blob = (here / "red.png").read_bytes()
    pq.write_table(pa.table({"image": [blob] * 3, "prompt": ["a", "b", "c"]}), here / "f" / "c1.parquet")


def test_runs_are_compared_with_others_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for names in (("a",), ("a", "a"), ("a", "b", "a")):
        code, said = fedcore(monkeypatch, capsys, "compare", *names)
        assert (code, "compare takes two runs or more, each once" in said) == (2, True), said


def test_benchmarks_write_into_folders(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "taken").write_text("mine")
    for benchmark in (("methods",), ("hybrid", "demo"), ("split", "demo")):
        code, said = fedcore(monkeypatch, capsys, "benchmark", *benchmark, "--out", "taken")
        assert (code, "'taken' is a file" in said) == (2, True), said


def test_wrong_federation_files(here: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    federation(here, base_folder)
    for arguments, expected in {
        ("missing.yaml",): "missing.yaml: there is no such file",
        ("f.yaml", "--set", "trainin.steps=3"): "f.yaml: unknown key 'trainin'; did you mean 'training'?",
        ("f.yaml", "--set", "adapter.rank=0"): "f.yaml: adapter.rank",
        ("f.yaml", "--set", "rounds"): "--set rounds: expected key=value",
        ("f.yaml", "--set", "base=/nowhere"): "base '/nowhere': /nowhere holds no model_index.json",
        ("f.yaml", "--set", "clients=[c2]"): "c2.yaml: there is no such client file",
    }.items():
        code, said = fedcore(monkeypatch, capsys, "run", *arguments)
        assert (code, expected in said, said.count("\n")) == (2, True, 1), said
    assert not (here / "runs").exists() or not any((here / "runs").rglob("runs/*"))


def test_a_base_without_a_unet(here: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "half").mkdir()
    for part in base_folder.iterdir():
        if part.name != "unet":
            (here / "half" / part.name).symlink_to(part)
    federation(here, here / "half")
    code, said = fedcore(monkeypatch, capsys, "run", "f.yaml")
    assert code == 2
    assert "has no folder 'unet'" in said


def test_wrong_tables(here: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    federation(here, base_folder)
    table = here / "f" / "c1.parquet"
    whole = table.read_bytes()
    empty = pa.table({"image": pa.array([], pa.binary()), "prompt": pa.array([], pa.string())})
    for damage, expected in (
        (lambda: table.write_bytes(whole[:200]), "not a readable Parquet file"),
        (lambda: pq.write_table(empty, table), "no pictures to train on"),
        (table.unlink, "there is no such table"),
    ):
        damage()
        code, said = fedcore(monkeypatch, capsys, "run", "f.yaml")
        assert code == 2
        assert f"{table.name}: {expected}" in said


def test_unknown_runs_are_refused_by_every_command(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["results", "nope"], ["status", "nope"], ["generate", "nope", "--prompt", "a cat", "--client", "c1"]):
        code, said = fedcore(monkeypatch, capsys, *arguments)
        assert code == 2
        assert "there is no run 'nope'" in said


def test_what_is_no_text_is_refused_as_an_argument_and_told_as_a_file_s_name(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "photos").mkdir()
    tiny.picture("a").save(here / "photos" / "a.png")
    (here / "photos" / os.fsdecode(b"b\xff.png")).write_bytes(b"no picture")
    wrong = fedcore(monkeypatch, capsys, "import-images", "photos", "--out", "mine.parquet", "--trigger", os.fsdecode(b"sk\xff"))
    assert wrong == (2, "error: 'sk\\udcff' is no UTF-8; give words in UTF-8, and rename a file or folder of such a name\n")
    code, said = fedcore(monkeypatch, capsys, "import-images", "photos", "--out", "mine.parquet", "--trigger", "sks", "--statement", "soft")
    assert (code, (here / "mine.yaml").exists()) == (0, True)
    assert "skipped b?.png: not a readable picture" in said


def test_import_images_makes_a_table_and_lists_what_it_skipped(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "pictures"
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    (folder / "a.txt").write_text("a red square")
    (folder / "b.png").write_bytes(b"no picture")
    (folder / "b.txt").write_text("broken")
    code, said = fedcore(monkeypatch, capsys, "import-images", str(folder), "--out", "mine.parquet")
    assert code == 0
    assert "skipped b.png: not a readable picture" in said
    assert "wrote 1 pictures to mine.parquet, skipped 1" in said
    assert pq.read_table("mine.parquet")["prompt"].to_pylist() == ["a red square"]
    code, said = fedcore(monkeypatch, capsys, "import-images", str(folder), "--out", "mine.parquet", "--statement", "red squares")
    assert (code, yaml.safe_load((here / "mine.yaml").read_text())) == (0, {"statement": "red squares", "pictures": "mine.parquet"})
    before = (here / "mine.parquet").stat().st_mtime_ns
    code, said = fedcore(monkeypatch, capsys, "import-images", str(folder), "--out", "mine.parquet", "--statement", "blue ones")
    assert (code, (here / "mine.parquet").stat().st_mtime_ns) == (2, before)
    assert "mine.yaml: there is such a client file already" in said
    code, said = fedcore(monkeypatch, capsys, "import-images", str(here / "runs"), "--out", "none.parquet", "--statement", "any")
    assert code == 2
    assert not (here / "none.parquet").exists()
    assert not (here / "none.yaml").exists()


@pytest.mark.parametrize("port", ["0", "99999", "-1"])
def test_ports_that_there_are_not(port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = fedcore(monkeypatch, capsys, "up", f"--port={port}")
    assert (code, "Invalid value for '--port'" in said, "Traceback" in said) == (2, True, False), said


def test_what_is_damaged_of_one_run_hides_no_other(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    store = Home(here / "runs").server()
    for name in ("good", "torn"):
        bind(store, read({"name": name, "clients": ["c1"]}, "f.yaml"))
    (here / "runs" / "server" / "runs" / "torn" / "federation.json").write_text("")
    monkeypatch.setattr(sys, "argv", ["fedcore", "status"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert "good: 0 of 3 rounds, 1 clients" in said
    assert "torn: " in said
    assert "federation.json: is damaged" in said


@pytest.mark.parametrize(
    ("error", "told"),
    [(httpx.ConnectError("refused"), True), (RuntimeError("Failed to reach API at http://x"), True), (RuntimeError("other"), False)],
)
def test_a_prefect_server_that_does_not_answer_is_named(error: Exception, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert (server_missing(error) or "").startswith("the Prefect server at http://127.0.0.1:9/api does not answer") == told
