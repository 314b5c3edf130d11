"""Client files: read on their own side, refused in one clear line, named by a digest."""

from pathlib import Path

import pytest

from data.clients import Client, clients_folder, load_client, new_client_file
from data.home import CLIENTS
from data.tables import write_table
from fedcore.errors import ConfigError, TableError
from tests.tiny import png

GOOD = "statement: black line art\npictures: c01.parquet\n"


def client(folder: Path, text: str = GOOD, prompts: tuple[str, ...] = ("a", "b", "c")) -> Client:
    write_table(folder / "c01.parquet", [(png(i), p, "train") for i, p in enumerate(prompts)])
    (folder / "c01.yaml").write_text(text)
    return load_client("c01", folder)


def test_a_client_is_its_statement_its_pictures_and_its_device(tmp_path: Path) -> None:
    made = client(tmp_path, GOOD + "device: phone\ngroup: lines\n")
    assert (made.id, made.statement, made.device, made.group) == ("c01", "black line art", "phone", "lines")
    assert [(r.image, r.prompt) for r in made.rows] == [(png(0), "a"), (png(1), "b"), (png(2), "c")]
    plain = client(tmp_path)
    assert (plain.device, plain.group) == ("laptop", None)


def test_the_digest_changes_with_statement_table_and_device_and_with_nothing_else(tmp_path: Path) -> None:
    digest = client(tmp_path).digest
    assert client(tmp_path, "# moved\n" + GOOD + "group: lines\n").digest == digest
    others = [
        client(tmp_path, GOOD.replace("black", "blue")),
        client(tmp_path, GOOD + "device: phone\n"),
        client(tmp_path, prompts=("a", "b", "d")),
    ]
    assert len({digest, *(c.digest for c in others)}) == 4
    assert "black" not in digest
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("statment: x\npictures: y\nstatement: z", "unknown key 'statment'; did you mean 'statement'?"),
        ("pictures: c01.parquet", "statement: Field required"),
        ("statement: ''\npictures: c01.parquet", "statement: String should have at least 1 character"),
        ("statement: [1]\npictures: c01.parquet", "statement: Input should be a valid string"),
        ("- a list", "expected keys such as 'statement' and 'pictures'"),
        ("", "expected keys such as 'statement' and 'pictures'"),
        ("statement: 'x\n", "not readable as YAML"),
    ],
)
def test_a_wrong_client_file_is_refused_with_its_path_and_the_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        client(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'c01.yaml'}: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_client_file_is_named(tmp_path: Path) -> None:
    client(tmp_path)
    with pytest.raises(ConfigError, match=r"c11\.yaml: there is no such client file$"):
        load_client("c11", tmp_path)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c02.yaml").write_text(GOOD.replace("c01", "c02"))
    with pytest.raises(TableError, match=r"c02\.parquet: there is no such table"):
        load_client("c02", tmp_path)


def test_a_process_that_serves_no_clients_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CLIENTS, raising=False)
    with pytest.raises(ConfigError, match="FEDCORE_CLIENTS is not set: this process serves no clients"):
        load_client("c01")
    client(tmp_path)
    monkeypatch.setenv(CLIENTS, str(tmp_path))
    assert clients_folder() == tmp_path
    assert load_client("c01").statement == "black line art"


def test_a_new_client_file_reads_back_and_never_replaces_one(tmp_path: Path) -> None:
    wish = '  bold: black outlines, "flat" colours – #1  '
    write_table(tmp_path / "anna.parquet", [(png(i), "a cat", "train") for i in range(3)])
    path, text = new_client_file(tmp_path / "anna.parquet", wish)
    path.write_bytes(text)
    assert load_client("anna", tmp_path).statement == wish.strip()
    with pytest.raises(ConfigError, match=r"anna\.yaml: there is such a client file already"):
        new_client_file(tmp_path / "anna.parquet", wish)
    with pytest.raises(ConfigError, match="statement"):
        new_client_file(tmp_path / "ben.parquet", " ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 5000, r"c01\.yaml: not readable as YAML"),
        ('statement: a\npictures: "a\\0b.parquet"\n', r"c01\.yaml: not readable \(no file can be named so\)"),
    ],
)
def test_absurd_client_files_are_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "c01.yaml").write_text(text)
    with pytest.raises((ConfigError, TableError), match=reason):
        load_client("c01", tmp_path)
