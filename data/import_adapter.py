"""Gives a client an adapter that was made elsewhere to begin with; checked as what a client hands over is."""

from pathlib import Path

import torch
import yaml

from data.clients import load_client
from data.formats import read_adapter
from data.store import write_atomically
from fedcore.adapters import Layer, check, to_bytes
from fedcore.base import BaseModel
from fedcore.errors import AdapterRefused, ConfigError
from fedcore.injection import target_shapes


def import_adapter(file: Path, client: str, folder: Path, base: BaseModel) -> Path:
    """Write `<client>.adapter.safetensors` beside the client's file, and name it there; returns its path.

    Layers that the adapter does not cover begin without an update; those that the base does not have are refused.

    Raises:
        AdapterRefused: the file, and what is wrong with it.
        ConfigError: there is no such client, or it has an adapter already.
    """
    path, target = folder / f"{client}.yaml", folder / f"{client}.adapter.safetensors"
    load_client(client, folder)
    text = path.read_text(encoding="utf-8")
    if "adapter" in yaml.safe_load(text):
        raise ConfigError("names an adapter already; remove that line first", at=path)
    adapter, shapes = read_adapter(file, base.family), target_shapes(base, "all")
    try:
        for name, layer in sorted(adapter.items()):
            out, inputs = shapes.get(name, (0, 0))
            like = Layer(torch.zeros(layer.rank, inputs), torch.zeros(out, layer.rank), layer.scale)
            check({name: layer}, {name: like} if name in shapes else {})
    except AdapterRefused as error:
        raise AdapterRefused(error.message, at=file) from None
    write_atomically(target, to_bytes(adapter), private=True)
    write_atomically(path, f"{text.rstrip()}\nadapter: {target.name}\n".encode())
    load_client(client, folder)
    return target
