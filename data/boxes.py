"""Letter boxes in the store: a worker leaves one outcome a client there, the round that waits for them takes them out."""

from data.store import Store


def _folder(box: str) -> str:
    return f"boxes/{box}"


def leave(store: Store, box: str, client: str, outcome: str) -> None:
    """Put a client's outcome (JSON) into the box, whole or not at all."""
    store.write_text(f"{_folder(box)}/{client}.json", outcome)


def discard(store: Store, box: str) -> None:
    """Empty a box that nobody will look into any more."""
    for file in store.children(_folder(box)):
        store.remove(f"{_folder(box)}/{file}")


def take(store: Store, box: str, most: int) -> dict[str, str]:
    """What lies in the box by client, of each letter its first `most` bytes; it is empty afterwards."""
    found: dict[str, str] = {}
    for file in store.children(_folder(box)):
        if file.endswith(".json") and (text := store.read_text(f"{_folder(box)}/{file}", most)) is not None:
            found[file.removesuffix(".json")] = text
            store.remove(f"{_folder(box)}/{file}")
    return found
