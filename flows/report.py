"""The round's report in Prefect's pages: its progress, a table of clients, the gallery, and where MLflow keeps the rest."""

import base64
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
from PIL import Image
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from data.home import Home
from data.records import RoundRecord
from flows.progress import Watcher, watched_by, watcher

STAGES = ("enrol", "encode", "train", "receive", "cluster", "aggregate", "interact", "baseline", "evaluate", "gallery")
LOSSES = {"base": "base", "personal": "personal", "cluster": "own cluster", "other_cluster": "other clusters"}
"""The table's names of a client's losses."""
EVERY = 2.0  # seconds between two looks that a page is given


def _key(name: str, what: str) -> str:
    """An artifact's key; Prefect allows no underscore in it, a run's name does."""
    return f"{name.replace('_', '--')}-{what}"


class _Live:
    """A watcher that keeps a progress artifact of the flow run at work, and passes everything on to `inner`."""

    def __init__(self, inner: Watcher, key: str) -> None:
        self._inner = inner
        self._artifact = create_progress_artifact(0.0, key, "begun")
        self._title, self._done, self._total = STAGES[0], 0, 1
        self._told = 0.0

    def stage(self, title: str, total: int) -> None:
        """A stage begins."""
        self._inner.stage(title, total)
        if title in STAGES:
            self._title, self._done, self._total = title, 0, max(1, total)
            if time.monotonic() - self._told > EVERY:
                self.tell(f"{title}: 0 of {total}")

    def step(self, text: str) -> None:
        """One step is done."""
        self._inner.step(text)
        self._done = min(self._done + 1, self._total)
        if time.monotonic() - self._told > EVERY:
            self.tell(f"{self._title}: {self._done} of {self._total}")

    def tell(self, text: str, percent: float | None = None) -> None:
        """Show it; a server that does not answer now costs the round nothing."""
        self._told = time.monotonic()
        share = 100 * (STAGES.index(self._title) + self._done / self._total) / len(STAGES) if percent is None else percent
        with suppress(httpx.HTTPError):
            update_progress_artifact(self._artifact, share, text)


@contextmanager
def live(name: str, number: int) -> Iterator[None]:
    """Progress inside the block is seen in Prefect's pages as well."""
    shown = _Live(watcher(), _key(name, f"progress-{number}"))
    with watched_by(shown):
        yield
    shown.tell("done", 100.0)


def link(home: Home, name: str, experiment: str, run: str) -> None:
    """Leave a link to the run's page in MLflow, where a server shows it."""
    if page := home.mlflow_page(experiment, run):
        create_link_artifact(
            page, f"{name} in MLflow", key=_key(name, "mlflow"), description="Curves, pictures by round, adapter versions."
        )


def report(home: Home, name: str, record: RoundRecord) -> None:
    """Leave table and gallery as artifacts of the flow run at work; nothing in them comes from a client's words or pictures.

    A server that does not answer now costs the round nothing.
    """
    rows = []
    for client, c in sorted(record.clients.items()):
        loss = c.test or {}
        rows.append(
            {
                "client": client,
                "cluster": c.cluster,
                "pictures": c.samples,
                **{title: _short(loss.get(what)) for what, title in LOSSES.items()},
                "left out": c.failed or "",
            }
        )
    text = f"{name}, round {record.round}: {len(record.clusters)} clusters, {record.bytes_up:,} bytes up, {record.bytes_down:,} down"
    losses = "Losses on held-out pictures, of the base and with each adapter."
    with suppress(httpx.HTTPError):
        create_table_artifact(table=rows, key=_key(name, f"round-{record.round}"), description=f"{text}. {losses}")
        create_image_artifact(image_url=_inline(home, record), key=_key(name, f"gallery-{record.round}"), description=f"Gallery. {text}")


def _short(loss: float | None) -> float | None:
    """Four decimals: more tell nobody anything."""
    return None if loss is None else round(loss, 4)


def _inline(home: Home, record: RoundRecord) -> str:
    """The gallery at half size as a data URL: Prefect's pages cannot open files."""
    picture = Image.open(io.BytesIO(home.server().get(record.gallery))).convert("RGB").reduce(2)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
