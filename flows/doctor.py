"""What must hold for a federation to run here, checked one by one, with the remedy where it does not."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from data.base.folder import EMBEDDED, digest
from data.home import Home
from fedcore.config import Federation
from fedcore.errors import FedcoreError

PACKAGES = ("torch", "diffusers", "transformers", "peft", "prefect", "mlflow", "scikit-learn", "pyarrow")
GIB = 2**30


def checks() -> Iterator[tuple[str, str | None]]:
    """Title and problem (None: fine) of every check."""
    yield f"Python {sys.version.split()[0]}", None if sys.version_info[:2] in ((3, 11), (3, 12)) else "3.11 or 3.12 is needed"
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}", None
        except PackageNotFoundError:
            yield package, "not installed; `make demo` sets everything up"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield f"{memory:.0f} GiB of memory", None if memory >= 4 else "the demo needs 4 GiB"
    home = Home.current().root
    yield f"state folder {home}", _writable()
    existing = next(p for p in (home, *home.parents) if p.exists())
    free = shutil.disk_usage(existing).free / GIB
    yield f"{free:.0f} GiB of free disk", None if free >= 2 else "2 GiB are needed; free some or move FEDCORE_HOME"
    yield f"embedded base model {digest(EMBEDDED)}", _base()
    yield "one empty flow runs", _flow()


def memory(federation: Federation) -> tuple[str, str | None]:
    """Does a federation's training fit into this machine's memory?

    Raises:
        BaseModelError: its base cannot be opened.
        InputError: there is no such device.
    """
    from tasks._dispatch import workers
    from tasks.estimate import estimate

    found = estimate(federation, workers())
    return f"{federation.name}: {found}", found.advice


def _writable() -> str | None:
    from data.store import write_atomically

    try:
        probe = Home.current().root / ".doctor"
        write_atomically(probe, b"")
        probe.unlink()
    except OSError as error:
        return f"cannot be written ({error.strerror}); set FEDCORE_HOME to a folder you own"
    return None


def _base() -> str | None:
    from data.base.load import load_base

    try:
        load_base("embedded")
    except FedcoreError as error:
        return str(error)
    return None


def _flow() -> str | None:
    from prefect import flow

    @flow(name="doctor")
    def empty() -> int:
        return 1

    try:
        return None if empty() == 1 else "it returned nothing"
    except Exception as error:  # noqa: BLE001 whatever breaks the engine is what this check is for
        return f"{type(error).__name__}: {error}; install the pinned versions: pip install -e . -c constraints.txt"
