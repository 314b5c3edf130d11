"""The layout of the folder that holds all state."""

from pathlib import Path

import pytest

from data.home import CLIENTS, HOME, Home


def test_the_folder_comes_from_the_environment_and_is_runs_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(HOME, raising=False)
    assert Home.current().root == tmp_path / "runs"
    monkeypatch.setenv(HOME, "elsewhere")
    assert Home.current().root == tmp_path / "elsewhere"
    assert (HOME, CLIENTS) == ("FEDCORE_HOME", "FEDCORE_CLIENTS")


def test_the_servers_side_and_every_clients_side_are_apart(tmp_path: Path) -> None:
    home = Home(tmp_path)
    places = [Path(home.server().root), home.private("a"), home.private("b"), home.run("demo"), home.prefect, home.mlflow]
    assert all(p != q and p not in q.parents for p in places for q in places if p is not q)
    assert all(tmp_path in p.parents for p in places)
