"""Gives a client an adapter that was made elsewhere to begin with; checked as what a client hands over is."""

from pathlib import Path

import torch
import yaml

from data.clients import load_client
from data.formats import read_adapter
from data.store import write_atomically
from fedcore.adapters import Layer, Shapes, check, shown, to_bytes
from fedcore.base import BaseModel
from fedcore.config import NAME
from fedcore.errors import AdapterRefused, ConfigError


def import_adapter(file: Path, client: str, folder: Path, base: BaseModel, shapes: Shapes) -> Path:
    """Write `<client>.adapter.safetensors` beside the client's file, and name it there; returns its path.

    `shapes` are the layers of the `base` that adapters may cover; of the base itself only names are looked at. Those that this
    one does not cover begin without an update.

    Raises:
        AdapterRefused: the file, and what is wrong with it.
        ConfigError: this is no client's name, there is no such client, or it has an adapter already.
    """
    if not NAME.fullmatch(client):
        raise ConfigError(f"{client[:60]!a} is no client's name; give lower-case letters, digits, - and _")
    path, target = folder / f"{client}.yaml", folder / f"{client}.adapter.safetensors"
    load_client(client, folder)
    text = path.read_text(encoding="utf-8")
    if "adapter" in yaml.safe_load(text):
        raise ConfigError("names an adapter already; remove that line first", at=path)
    adapter = read_adapter(file, base)
    if foreign := sorted(set(adapter) - set(shapes)):
        may = ", ".join(_endings(shapes))
        raise AdapterRefused(f"covers layer {shown(foreign[0])}, which adapters of this base do not; it may cover these: {may}", at=file)
    try:
        for name, layer in sorted(adapter.items()):
            out, inputs = shapes[name]
            check({name: layer}, {name: Layer(torch.zeros(layer.rank, inputs), torch.zeros(out, layer.rank), layer.scale)})
    except AdapterRefused as error:
        raise AdapterRefused(error.message, at=file) from None
    write_atomically(target, to_bytes(adapter), private=True)
    write_atomically(path, _naming(text, target.name).encode(), private=not path.stat().st_mode & 0o077)
    load_client(client, folder)
    return target


def _endings(shapes: Shapes) -> list[str]:
    """The last parts of the layers' names, without numbers."""
    return sorted({next(part for part in reversed(name.split(".")) if not part.isdigit()) for name in shapes})


def _naming(text: str, adapter: str) -> str:
    """The client file with a line for its adapter; as it stands, where another line can follow."""
    values, longer = {**yaml.safe_load(text), "adapter": adapter}, f"{text.rstrip()}\nadapter: {adapter}\n"
    try:
        if yaml.safe_load(longer) == values:
            return longer
    except yaml.YAMLError:  # all in braces, say
        pass
    rewritten: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    return rewritten
