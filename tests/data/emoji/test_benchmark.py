"""The benchmark's clients: uneven, disjoint, mistaken in the stated shares, the same bytes for the same seed."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from data.emoji.benchmark import (
    A_STYLE,
    LEAST,
    POOL,
    TEST,
    TUNE,
    USERS,
    reserved,
    shuffled,
    sizes,
    statements,
    users,
    write_clients,
    write_pool,
)


def test_clients_are_written_byte_for_byte_the_same_and_another_seed_gives_others(tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    ids = write_clients(first, 0)
    assert len(ids) == len(USERS) * A_STYLE >= 40
    assert write_clients(again, 0) == ids
    write_clients(other, 1)
    for client in ids:
        for kind in ("yaml", "parquet"):
            assert (first / f"{client}.{kind}").read_bytes() == (again / f"{client}.{kind}").read_bytes()
    assert any((first / f"{c}.parquet").read_bytes() != (other / f"{c}.parquet").read_bytes() for c in ids)


def test_no_two_clients_of_a_style_share_a_picture_and_the_reserved_ones_are_nobodys(tmp_path: Path) -> None:
    seen: dict[str, list[bytes]] = {}
    for client in write_clients(tmp_path, 0):
        table = pq.read_table(tmp_path / f"{client}.parquet")
        splits = Counter(table["split"].to_pylist())
        assert (splits["tune"], splits["test"]) == (TUNE, TEST)
        assert splits["train"] >= LEAST
        style = yaml.safe_load((tmp_path / f"{client}.yaml").read_text())["group"]
        seen.setdefault(style, []).extend(table["image"].to_pylist())
    for style, pictures in seen.items():
        assert len(set(pictures)) == len(pictures)
        assert not set(pictures) & {d.png for d in reserved(style)}
        assert not {d.png for d in reserved(style)} & {d.png for d in shuffled(style, 5)}


def test_sizes_are_uneven_around_their_mean() -> None:
    for style in USERS:
        found = sizes(0, style)
        assert max(found) > 2 * min(found)
        assert 15 <= sum(found) / A_STYLE <= 21


def test_the_stated_shares_say_the_wrong_thing_or_nothing() -> None:
    known, made = statements(), users(0, 0.15, 0.1)
    wrong = [u for u in made if u.statement not in known[u.style]]
    vague = [u for u in wrong if u.statement in known["vague"]]
    assert (len(wrong) - len(vague), len(vague)) == (6, 4)
    assert all(u.statement in known[u.style] for u in users(0, 0.0, 0.0))
    assert {u.device for u in made} == {"phone", "laptop", "workstation"}


def test_the_pool_has_everybody_s_training_pictures_and_no_others(tmp_path: Path) -> None:
    clients = write_clients(tmp_path, 0)
    write_pool(tmp_path, clients)
    everybody = [row["image"] for c in clients for row in pq.read_table(tmp_path / f"{c}.parquet").to_pylist() if row["split"] == "train"]
    pooled = pq.read_table(tmp_path / f"{POOL}.parquet").to_pylist()
    assert [row["image"] for row in pooled] == everybody
    assert {row["split"] for row in pooled} == {"train"}
    assert yaml.safe_load((tmp_path / f"{POOL}.yaml").read_text())["pictures"] == f"{POOL}.parquet"
