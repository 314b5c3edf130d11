"""What a client is, read on its own side only: its requirement statement, its pictures, its device class."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from data.home import CLIENTS, Home
from data.store import write_atomically
from data.tables import Row, read_table
from fedcore.errors import ConfigError, TableError
from fedcore.validation import validated


class ClientFile(BaseModel):
    """`<id>.yaml`: `statement` says in plain words what pictures the user wants; `pictures` is a Parquet file beside it.

    `group` is a known true style, for research only: it is compared with the clusters after the fact. `adapter` is a file beside
    it with an adapter to begin with, which `fedcore import-adapter` wrote.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    statement: str = Field(min_length=1)
    pictures: str = Field(min_length=1)
    device: str = Field("laptop", max_length=64)
    group: str | None = Field(None, max_length=64)
    adapter: str | None = Field(None, min_length=1)


def new_client_file(table: Path, statement: str) -> tuple[Path, bytes]:
    """The client file that belongs beside a table: its place and its text.

    Raises:
        ConfigError: the statement is empty, there is such a file already, or it is the table itself.
    """
    path = table.with_suffix(".yaml")
    if path == table:
        raise ConfigError("a table of pictures cannot have this name, it is the client file's; call it .parquet", at=table)
    if path.exists():
        raise ConfigError("there is such a client file already; change the statement there and leave out --statement", at=path)
    file = validated(ClientFile, {"statement": statement.strip(), "pictures": table.name}, str(path))
    return path, yaml.safe_dump(file.model_dump(exclude_unset=True), sort_keys=False, allow_unicode=True, width=1000).encode()


@dataclass(frozen=True)
class Client:
    """A client as its own side sees it; `digest` names its statement and table without telling anything of them."""

    id: str
    statement: str
    rows: list[Row]
    device: str
    group: str | None
    digest: str
    adapter: bytes | None = None


def _note(home: Home, name: str) -> Path:
    return home.private("_folders") / f"{name}.txt"  # no client id begins with an underscore


def remember_clients(home: Home, name: str, folder: Path) -> None:
    """In a simulation, note on the clients' side where the client files of a run lie."""
    write_atomically(_note(home, name), f"{folder.absolute()}\n".encode(), private=True)


def serve(home: Home, name: str) -> None:
    """Serve the clients of this run in this process and those it starts: where a simulation noted them, or `FEDCORE_CLIENTS`."""
    if _note(home, name).exists():
        os.environ[CLIENTS] = _note(home, name).read_text().strip()


def clients_folder() -> Path:
    """Where this side keeps its client files (`FEDCORE_CLIENTS`).

    Raises:
        ConfigError: this process was not told.
    """
    folder = os.environ.get(CLIENTS)
    if not folder:
        raise ConfigError(f"{CLIENTS} is not set: this process serves no clients")
    return Path(folder).absolute()


def load_enrolled(client: str, digest: str) -> Client:
    """A client exactly as it enrolled.

    Raises:
        ConfigError: its statement, table or device is another by now.
    """
    found = load_client(client)
    if found.digest != digest:
        raise ConfigError(
            f"client {client}: its statement, pictures or device changed since it enrolled; the next round takes the new ones"
        )
    return found


def load_client(client: str, folder: Path | None = None) -> Client:
    """Read one client's file and table.

    Raises:
        ConfigError: the file is missing or wrong.
        TableError: the table is missing or wrong.
    """
    path = (folder or clients_folder()) / f"{client}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except FileNotFoundError:
        raise ConfigError("there is no such client file", at=path) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a ValueError: no UTF-8, or a date that there is not
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "its text"
        raise ConfigError(f"not readable as YAML ({where}); quote text that holds ':' or begins with a sign", at=path) from None
    except OSError as error:
        raise ConfigError(f"not readable ({error.strerror})", at=path) from None
    if not isinstance(values, dict):
        raise ConfigError("expected keys such as 'statement' and 'pictures'", at=path)
    file = validated(ClientFile, values, str(path))
    table = path.parent / file.pictures
    try:
        blob = table.read_bytes()
    except FileNotFoundError:
        raise TableError("there is no such table; make one with `fedcore import-images`", at=table) from None
    except (OSError, ValueError) as error:  # a ValueError: a name that no file can have
        raise TableError(f"not readable ({getattr(error, 'strerror', None) or 'no file can be named so'})", at=path) from None
    rows = read_table(blob, str(table))
    adapter = None if file.adapter is None else _beside(path, file.adapter)
    named = hashlib.sha256(blob).digest() + repr((file.statement, file.device)).encode()
    digest = hashlib.sha256(named + (b"" if adapter is None else hashlib.sha256(adapter).digest())).hexdigest()
    return Client(client, file.statement, rows, file.device, file.group, digest, adapter)


def _beside(client: Path, name: str) -> bytes:
    try:
        return (client.parent / name).read_bytes()
    except (OSError, ValueError):
        raise ConfigError("its adapter cannot be read; import it again with `fedcore import-adapter`", at=client) from None
