"""What a round set out to compute: the key of every stage, noted before it runs, so that a crash or a rerun knows what belongs to it."""

import json
from collections.abc import Iterable

from pydantic import BaseModel, ValidationError

from data import manifests
from data.store import Store

FORMAT = 1
Keys = dict[str, dict[str, str]]
"""Stage → owner → key; the owner is a client, `cluster 0`, or the empty string where there is one job only."""


class _Noted(BaseModel):
    stages: Keys


def _path(name: str, number: int) -> str:
    return f"runs/{name}/journal-{number:04}.json"


class Journal:
    """The journal of one execution of one round; what an earlier one noted of a stage stays until this one comes to it."""

    def __init__(self, store: Store, name: str, number: int) -> None:
        """Nothing is written before the first note."""
        self._store, self._path = store, _path(name, number)
        self._keys, self._noted = read_journal(store, name, number), set[str]()

    def note(self, stage: str, keys: dict[str, str]) -> None:
        """These jobs of `stage` are about to run."""
        if stage not in self._noted:
            self._noted.add(stage)
            self._keys[stage] = {}
        self._keys[stage].update(keys)
        self._write()

    def end(self) -> None:
        """This execution is through: stages that it did not come to do not belong to the round."""
        self._keys = {stage: keys for stage, keys in self._keys.items() if stage in self._noted}
        self._write()

    def strike(self, stage: str, owners: Iterable[str]) -> None:
        """These did not come through; the round goes on without them."""
        if owners := [owner for owner in owners if self._keys[stage].pop(owner, None)]:
            self._write()

    def _write(self) -> None:
        self._store.write_text(self._path, _text(self._keys))


def _text(keys: Keys) -> str:
    return json.dumps({"format": FORMAT, "stages": keys})


def put_back(store: Store, name: str, number: int, keys: Keys) -> None:
    """The journal as it was before an execution that came to nothing, and with it what was set aside of these jobs."""
    for stage, by_owner in keys.items():
        for key in by_owner.values():
            manifests.restore(store, stage, key)
    store.write_text(_path(name, number), _text(keys))


def read_journal(store: Store, name: str, number: int) -> Keys:
    """What the last execution of a round noted; empty where it never began, or its file is damaged: whoever goes on notes it again."""
    text = store.read_text(_path(name, number))
    try:
        return _Noted.model_validate_json(text or "").stages
    except ValidationError:
        return {}


def lacking(store: Store, keys: Keys) -> Keys:
    """Those jobs whose manifest, or a blob of it, is gone or damaged."""
    gone = {s: {o: k for o, k in by_owner.items() if manifests.read(store, s, k) is None} for s, by_owner in keys.items()}
    return {stage: by_owner for stage, by_owner in gone.items() if by_owner}
