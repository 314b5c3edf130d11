"""A training that was interrupted goes on from its checkpoint, which lies on the client's side and belongs to one job."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from data.store import write_atomically
from fedcore.training import State


class Checkpoint:
    """The checkpoint of one part of the job `key` in a client's folder; those of other jobs are removed when this one is written."""

    def __init__(self, folder: Path, key: str, part: str) -> None:
        """Nothing is read or written yet."""
        self._job = f"training-{key[:32]}"
        self._path = folder / f"{self._job}-{part}.safetensors"

    def read(self) -> State | None:
        """The state, or None where there is none that can be read."""
        try:
            state: State = load_file(self._path)
        except (FileNotFoundError, SafetensorError):
            return None
        return state

    def write(self, state: State) -> None:
        """Replace the checkpoint atomically."""
        write_atomically(self._path, save(state), private=True)
        for other in self._path.parent.glob("training-*.safetensors"):
            if not other.name.startswith(self._job):
                other.unlink(missing_ok=True)
