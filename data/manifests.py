"""A stage is committed by its manifest: what went in, what came out, with which parameters, seed and library versions."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from data.store import Ref, Store

FORMAT: Literal[1] = 1


class Manifest(BaseModel):
    """`outputs` are blobs of the server's store; `record` is small JSON (metrics, members, outcomes); `finished` is Unix time.

    Only `finished`, `seconds`, `threads` and `libraries` may differ between two computations of the same key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    stage: str
    version: int
    key: str
    parameters: dict[str, Any]
    outputs: dict[str, Ref]
    record: dict[str, Any]
    libraries: dict[str, str]
    threads: int
    seconds: float
    finished: float

    def brief(self) -> "Manifest":
        """Without parameters and libraries, which only the store need keep: a coordinator holds those of every client."""
        return self.model_copy(update={"parameters": {}, "libraries": {}})


def path(stage: str, key: str) -> str:
    """Where a manifest lies in its store."""
    return f"manifests/{stage}/{key}.json"


def read(store: Store, stage: str, key: str) -> Manifest | None:
    """The manifest of a finished stage, or None where it or one of its blobs is missing or damaged."""
    text = store.read_text(path(stage, key))
    if text is None:
        return None
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError:
        return None  # damaged, or of another format: the stage runs again and replaces it
    mine = (manifest.stage, manifest.key) == (stage, key)
    return manifest if mine and all(store.holds(ref) for ref in manifest.outputs.values()) else None


def write(store: Store, manifest: Manifest) -> None:
    """The commit point of a stage: from here on it is done."""
    store.write_text(path(manifest.stage, manifest.key), manifest.model_dump_json(indent=1))


def _aside(stage: str, key: str) -> str:
    return f"set-aside/{stage}/{key}.json"


def set_aside(store: Store, stage: str, key: str) -> None:
    """Make a finished stage count as not done; its blobs stay, and `restore` brings it back."""
    text = store.read_text(path(stage, key))
    if text is not None:
        store.write_text(_aside(stage, key), text)
        store.remove(path(stage, key))


def restore(store: Store, stage: str, key: str) -> None:
    """Where a stage that was set aside has not been done again since, let it count again."""
    text = store.read_text(_aside(stage, key))
    if text is not None and store.read_text(path(stage, key)) is None:
        store.write_text(path(stage, key), text)
