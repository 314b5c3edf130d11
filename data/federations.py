"""Reads a federation's YAML file, the server's part, and knows where a simulation keeps the clients' part."""

import re
from pathlib import Path
from typing import Any

import yaml

from fedcore.config import Federation, federation
from fedcore.errors import ConfigError


class _Words(yaml.SafeLoader):
    """Safe YAML as of 1.2, where `on`, `off`, `yes` and `no` are words: `clustering: {on: adapters}` has a key, no truth."""

    yaml_implicit_resolvers = {  # noqa: RUF012 as its parent declares it
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:bool"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Words.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|True|false|False)$"), list("tTfF"))


def _parsed(text: str) -> Any:
    """As `yaml.safe_load`, which takes no loader."""
    loader = _Words(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def client_folder(file: Path) -> Path:
    """In a simulation, the client files of `demo.yaml` lie in the folder `demo` beside it; only the clients' side opens it."""
    return file.parent / file.stem


def read_federation(file: Path, overrides: list[str], name: str | None) -> Federation:
    """The configuration in `file` with `key=value` overrides; the run's name is `name`, the file's own or its stem.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds something wrong.
    """
    try:
        values = _parsed(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file; `fedcore run federations/demo.yaml` runs the demo") from None
    except IsADirectoryError:
        raise ConfigError(f"{file}: is a folder, expected a YAML file") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: no UTF-8, or a date that there is not
        raise ConfigError(f"{file}: not readable as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected keys such as 'clients' and 'rounds'")
    values.setdefault("name", file.stem)
    for override in overrides:
        _override(values, override)
    if name is not None:
        values["name"] = name
    return federation(values, str(file))


def _override(values: dict[str, Any], text: str) -> None:
    """Apply one 'a.b=value' in place; the value is read as YAML."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {text}: expected key=value, e.g. --set clustering.k=4")
    *path, last = key.split(".")
    here = values
    for part in path:
        here = here.setdefault(part, {})
        if not isinstance(here, dict):
            raise ConfigError(f"--set {text}: '{part}' holds a plain value, not further keys")
    try:
        here[last] = _parsed(value)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"--set {text}: the value is not readable as YAML") from None
