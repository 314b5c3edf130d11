"""Checkpoints of local training: of one job only, whole or not at all."""

from pathlib import Path

import torch

from data.checkpoints import Checkpoint


def test_only_the_same_job_finds_it_again_and_another_job_replaces_it(tmp_path: Path) -> None:
    first, second = Checkpoint(tmp_path / "c1", "a" * 64, "shared"), Checkpoint(tmp_path / "c1", "b" * 64, "shared")
    assert first.read() is None
    first.write({"x": torch.arange(3.0)})
    found = first.read()
    assert found is not None
    assert torch.equal(found["x"], torch.arange(3.0))
    assert second.read() is None
    second.write({"x": torch.zeros(1)})
    assert first.read() is None
    assert len(list((tmp_path / "c1").iterdir())) == 1


def test_the_parts_of_a_job_are_kept_side_by_side(tmp_path: Path) -> None:
    shared, personal = (Checkpoint(tmp_path, "a" * 64, part) for part in ("shared", "personal"))
    shared.write({"x": torch.zeros(1)})
    personal.write({"x": torch.ones(1)})
    found = [checkpoint.read() for checkpoint in (shared, personal)]
    assert [float(state["x"]) for state in found if state] == [0.0, 1.0]


def test_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "a" * 64, "shared")
    checkpoint.write({"x": torch.arange(3.0)})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    assert checkpoint.read() is None
