"""Cached encodings equal direct ones, belong to the right captions, and are made once."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.clients import Client, load_client
from data.encoded import examples
from data.home import Home
from data.tables import Split, write_table
from fedcore.base import BaseModel
from fedcore.errors import TableError
from fedcore.prompts import encode
from fedcore.training import Examples
from tests.tiny import picture, png

TABLE: list[tuple[str, Split]] = [
    ("a cat", "train"),
    ("a dog", "test"),
    ("pizza", "train"),
    ("a red house", "tune"),
    ("soft pastel", "train"),
]


def client(folder: Path, order: list[int], statement: str = "black line art") -> Client:
    """The table's rows in another order; picture i is always that of prompt i."""
    write_table(folder / "c01.parquet", [(png(i), *TABLE[i]) for i in order])
    (folder / "c01.yaml").write_text(f"statement: {statement}\npictures: c01.parquet\n")
    return load_client("c01", folder)


def caches(home: Home) -> list[Path]:
    return sorted(home.private("c01").iterdir())


@torch.no_grad()
def test_rows_hold_the_scaled_posterior_and_the_encoded_prompt_of_their_picture(base: BaseModel, tmp_path: Path) -> None:
    """The tiny autoencoder's scaling factor is 0.5: means and standard deviations are halved."""
    found = examples(client(tmp_path, [0, 1, 2, 3, 4]), base, home=Home(tmp_path / "home"))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 3, "test": 1, "tune": 1}
    for split, place, i in (("train", 0, 0), ("test", 0, 1), ("train", 1, 2), ("tune", 0, 3), ("train", 2, 4)):
        rows: Examples = found[split]  # type: ignore[index]
        pixels = torch.from_numpy(np.asarray(picture(i)).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        posterior = base.vae.encode(pixels).latent_dist
        torch.testing.assert_close(rows.mean[place], posterior.mean[0] / 2, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.exp(0.5 * rows.log_variance[place]), posterior.std[0] / 2, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(rows.prompts.tokens[place], encode(base, [TABLE[i][0]]).prompts.tokens[0])


def test_a_shuffled_table_keeps_every_picture_with_its_caption(base: BaseModel, tmp_path: Path) -> None:
    home, order = Home(tmp_path / "home"), [4, 2, 0, 3, 1]
    plain = examples(client(tmp_path, [0, 1, 2, 3, 4]), base, home=home)["train"]
    shuffled = examples(client(tmp_path, order), base, home=home)["train"]
    for here, there in ((0, 2), (1, 1), (2, 0)):
        torch.testing.assert_close(shuffled.mean[here], plain.mean[there], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(shuffled.prompts.tokens[here], plain.prompts.tokens[there])


def test_the_cache_is_used_again_and_never_for_another_table_or_base(base: BaseModel, tmp_path: Path) -> None:
    home, mine = Home(tmp_path / "home"), client(tmp_path, [0, 1, 2])
    first = examples(mine, base, home=home)
    (path,) = caches(home)
    os.utime(path, (1, 1))
    again = examples(mine, base, home=home)
    assert path.stat().st_mtime == 1
    assert torch.equal(first["train"].mean, again["train"].mean)
    examples(mine, replace(base, digest="another"), home=home)
    assert len(caches(home)) == 2
    fewer = examples(client(tmp_path, [0, 2]), base, home=home)
    torch.testing.assert_close(fewer["train"].mean[1], first["train"].mean[1], rtol=1e-4, atol=1e-5)
    assert len(caches(home)) == 2  # what was encoded of the old table is gone


def test_only_their_owner_can_read_them_and_a_damaged_one_is_made_anew(base: BaseModel, tmp_path: Path) -> None:
    home, mine = Home(tmp_path / "home"), client(tmp_path, [0, 1, 2])
    first = examples(mine, base, home=home)
    (path,) = caches(home)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(examples(mine, base, home=home)["train"].mean, first["train"].mean)


def test_a_picture_that_cannot_be_read_is_named_by_its_row(base: BaseModel, tmp_path: Path) -> None:
    write_table(tmp_path / "c01.parquet", [(png(0), "a", None), (b"none", "b", None), (png(2), "c", None)])
    (tmp_path / "c01.yaml").write_text("statement: x\npictures: c01.parquet\n")
    with pytest.raises(TableError, match=r"^row 1: not a readable picture"):
        examples(load_client("c01", tmp_path), base, home=Home(tmp_path / "home"))


def test_encodings_lie_on_the_clients_side_only(base: BaseModel, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    examples(client(tmp_path, [0, 1]), base, home=home)
    written = [p for p in home.root.rglob("*") if p.is_file()]
    assert all(home.private("c01") in p.parents for p in written)
    assert len(written) == 1


def test_many_pictures_are_encoded_in_batches_without_mixing_them(base: BaseModel, tmp_path: Path) -> None:
    write_table(tmp_path / "c01.parquet", [(png(i % 3), "a cat", "train") for i in range(17)])
    (tmp_path / "c01.yaml").write_text("statement: x\npictures: c01.parquet\n")
    found = examples(load_client("c01", tmp_path), base, home=Home(tmp_path / "home"))["train"]
    assert len(found) == 17
    torch.testing.assert_close(found.mean[16], found.mean[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found.mean[16], found.mean[0], atol=1e-2)
