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
from fedcore.config import validated
from fedcore.errors import ConfigError


class ClientFile(BaseModel):
    """`<id>.yaml`: `statement` says in plain words what pictures the user wants; `pictures` is a Parquet file beside it.

    `group` is a known true style, for research only: it is compared with the clusters after the fact.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    statement: str = Field(min_length=1)
    pictures: str = Field(min_length=1)
    device: str = "laptop"
    group: str | None = None


@dataclass(frozen=True)
class Client:
    """A client as its own side sees it; `digest` names its statement and table without telling anything of them."""

    id: str
    statement: str
    rows: list[Row]
    device: str
    group: str | None
    digest: str


def _note(home: Home, name: str) -> Path:
    return home.private("_folders") / f"{name}.txt"  # no client id begins with an underscore


def remember_clients(home: Home, name: str, folder: Path) -> None:
    """In a simulation, note on the clients' side where the client files of a run lie."""
    write_atomically(_note(home, name), f"{folder.absolute()}\n".encode())


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
    return Path(folder)


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
        there = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ConfigError(f"{path}: there is no such client file; the folder has {', '.join(there[:12]) or 'none'}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys such as 'statement' and 'pictures'")
    file = validated(ClientFile, values, str(path))
    table = path.parent / file.pictures
    rows = read_table(table)
    digest = hashlib.sha256(hashlib.sha256(table.read_bytes()).digest() + repr((file.statement, file.device)).encode()).hexdigest()
    return Client(client, file.statement, rows, file.device, file.group, digest)
