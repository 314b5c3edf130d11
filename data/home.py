"""Where everything lies: one folder (`FEDCORE_HOME`, `runs/` by default) with the server's side and each client's side."""

import os
from dataclasses import dataclass
from pathlib import Path

from data.store import Store

HOME = "FEDCORE_HOME"
CLIENTS = "FEDCORE_CLIENTS"


@dataclass(frozen=True)
class Home:
    """The layout of the folder that holds all state."""

    root: Path

    @classmethod
    def current(cls) -> "Home":
        """From the environment; worker processes inherit it."""
        return cls(Path(os.environ.get(HOME, "runs")).absolute())

    def server(self) -> Store:
        """The server's store: vectors, adapters, metrics, manifests; nothing of a client's pictures or words."""
        return Store(self.root / "server")

    def private(self, client: str) -> Path:
        """A client's own folder, for caches that never leave its side."""
        return self.root / "clients" / client

    def run(self, name: str) -> Path:
        """What a run shows: pictures and results."""
        return self.root / name

    @property
    def prefect(self) -> Path:
        """Prefect's database and settings."""
        return self.root / "prefect"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"
