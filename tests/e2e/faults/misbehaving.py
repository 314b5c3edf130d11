"""Clients that do wrong: in their workers, what they load or hand over in training is replaced.

`FEDCORE_MISBEHAVE=<client>=<kind>,…`; kinds: `raises`, `hangs`, `nan` (an adapter with one), `shape` (an adapter with a smaller layer),
`old` (from its second round on, the adapter of its first one).
"""

import multiprocessing
import time
from typing import Any


def spoilt(blob: bytes, how: str, client: str) -> bytes:
    """What a client of that kind hands over instead of `blob`."""
    import torch

    from data.home import Home
    from fedcore import adapters
    from fedcore.adapters import Layer

    if how == "old":
        kept = Home.current().private(client) / "first.bin"
        if kept.exists():
            return kept.read_bytes()
        kept.write_bytes(blob)
    if how in ("nan", "shape"):
        adapter = dict(adapters.from_bytes(blob))
        name = min(adapter)
        a, b, scale = adapter[name].a, adapter[name].b.clone(), adapter[name].scale
        if how == "nan":
            b[0, 0] = torch.nan
        adapter[name] = Layer(a, b if how == "nan" else b[1:], scale)
        return adapters.to_bytes(adapter, transport="fp16")  # as the others do
    return blob


def arm(kinds: dict[str, str]) -> None:
    """Replace the functions that a client's training goes through."""
    from data import clients, manifests
    from data.store import Ref, Store

    stage, client = [""], [""]
    read, load, put = manifests.read, clients.load_client, Store.put

    def note_stage(store: Store, name: str, key: str) -> Any:
        stage[0] = name
        return read(store, name, key)

    def load_client(name: str, *rest: Any) -> Any:
        client[0] = name
        if stage[0] == "train" and multiprocessing.parent_process() is not None:
            if kinds.get(name) == "raises":
                raise RuntimeError("the word quixotrope is none of the server's business")
            if kinds.get(name) == "hangs":
                time.sleep(3600)
        return load(name, *rest)

    def hand_over(self: Store, blob: bytes, kind: str, *rest: Any) -> Ref:
        if kind == "adapter" and stage[0] == "train":
            blob = spoilt(blob, kinds.get(client[0], ""), client[0])
        return put(self, blob, kind, *rest)

    manifests.read, clients.load_client, Store.put = note_stage, load_client, hand_over  # type: ignore[assignment,method-assign]
