"""Where everything lies: one folder (`FEDCORE_HOME`, `runs/` by default) with the server's side and each client's side."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout

from data.store import Store
from fedcore.errors import BusyError

HOME = "FEDCORE_HOME"
CLIENTS = "FEDCORE_CLIENTS"
STORE = "FEDCORE_STORE"
PAGES = "FEDCORE_MLFLOW_PAGES"
TRAINING_PAGES = "workflowType=machine_learning"  # MLflow's pages otherwise turn to prompts and traces


def absolute(store: str) -> str:
    """A store's address that means the same in every folder."""
    return store if "://" in store else str(Path(store).absolute())


@lru_cache(maxsize=4)
def _opened(url: str) -> Store:
    """Every process checks a store's format once."""
    return Store(url)


@dataclass(frozen=True)
class Home:
    """The layout of the folder that holds all state."""

    root: Path

    @classmethod
    def current(cls) -> "Home":
        """From the environment; worker processes inherit it."""
        return cls(Path(os.environ.get(HOME, "runs")).absolute())

    def server(self) -> Store:
        """The server's store (`FEDCORE_STORE`, by default `server` in this folder): nothing of a client's pictures or words is in it."""
        return _opened(os.environ.get(STORE) or str(self.root / "server"))

    def private(self, client: str) -> Path:
        """A client's own folder, for caches that never leave its side."""
        return self.root / "clients" / client

    def run(self, name: str) -> Path:
        """What a run shows: pictures and results."""
        return self.root / name

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Taken by whoever works on the run, by a process as often as it likes; it frees itself when the process dies.

        Raises:
            BusyError: another process has it.
        """
        folder = self.run(name)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", blocking=False, thread_local=False, is_singleton=True)
        try:
            lock.acquire()
        except Timeout:
            raise BusyError(f"run '{name}' is being worked on by another process; wait for it, or stop it first") from None
        try:
            yield
        finally:
            lock.release()

    @property
    def bases(self) -> Path:
        """Base models as worker processes share them; made anew where it is gone."""
        return self.root / "bases"

    @property
    def prefect(self) -> Path:
        """Prefect's database and settings."""
        return self.root / "prefect"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts, unless `MLFLOW_TRACKING_URI` names a server."""
        return self.root / "mlflow"

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps its runs."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.mlflow / 'mlflow.db'}"

    def mlflow_page(self, experiment: str, run: str) -> str | None:
        """The address of a run's page; None where no server shows it (`FEDCORE_MLFLOW_PAGES`, by default a tracking server)."""
        pages = os.environ.get(PAGES) or (self.tracking_uri if self.tracking_uri.startswith("http") else None)
        return f"{pages.rstrip('/')}/#/experiments/{experiment}/runs/{run}?{TRAINING_PAGES}" if pages else None
