"""What the server keeps of a run: its configuration, bound to the name, and one record per finished round."""

import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.store import Ref, Store
from fedcore.config import FREE, Federation
from fedcore.errors import ConfigError, StoreError
from fedcore.validation import validated

FORMAT: Literal[2] = 2


Model = tuple[tuple[float, Ref], ...]
"""Adapters and their weights, which added up make a model; none: the base."""
MOST = 1e6
"""No loss is so high; sums of what clients tell stay finite."""
Loss = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]

CURVE = 100
"""The most points of a training's loss curve."""


class TrainingRecord(BaseModel):
    """What a client tells of its local training.

    `echo` is the SHA-256 of the adapter that it loaded, `samples` its training pictures, `curve` the training loss over the
    steps, each point the mean of equally many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    echo: str
    round: int
    samples: Annotated[int, Field(ge=1)]
    curve: Annotated[list[Loss], Field(min_length=1, max_length=CURVE)]


class ClientRecord(BaseModel):
    """One client in one round: `data` is the digest it enrolled with, `failed` why it was left out; losses are means of splits.

    Its personal model is `personal` and what stands `beside` it, added up, with the `share`; what is lacking to one is what it is
    `mixed` with: of its cluster's adapter what a client of its rank gets. `upload` is what it handed over for aggregation.
    `by_cluster` are the losses of the clusters' adapters on its tuning pictures. `training` is there if it came through this round;
    who was not `asked`, or `failed`, keeps what it had, and its `requirement` counts among the others'.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = ""
    samples: int = 0
    device: str = ""
    group: str | None = None
    requirement: Ref | None = None
    cluster: int | None = None
    asked: bool = True
    upload: Ref | None = None
    personal: Ref | None = None
    beside: tuple[Ref, ...] = ()
    mixed: tuple[Ref, ...] = ()
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    training: TrainingRecord | None = None
    tune: dict[str, float | None] | None = None
    test: dict[str, float | None] | None = None
    by_cluster: dict[str, float] = {}
    failed: str | None = None


class ClusterRecord(BaseModel):
    """One cluster in one round: its members, its adapter after the exchange, the mean error of the aggregation.

    Of `members` not all need have taken part; where none did, the rest is as it was.
    `own` is the part of the adapter that its clients go on training, `beside` the part from other clusters that stands beside
    it, if any; `state` are the moments of the server's optimiser.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: list[str]
    adapter: Ref
    own: Ref
    beside: Ref | None = None
    state: Ref | None = None
    rank: int
    aggregation_error: float | None


class RoundRecord(BaseModel):
    """Everything later rounds, results and MLflow need of a round. `base` is the digest of its weights, `finished` Unix time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = FORMAT
    round: int
    base: str
    clients: dict[str, ClientRecord]
    clusters: dict[int, ClusterRecord]
    clusters_ref: Ref
    alike: Ref | None = None
    bank: Ref
    gallery: Ref
    styles: dict[str, list[str] | None]
    silhouette: float | None
    bytes_up: int
    bytes_down: int
    seconds: float
    finished: float

    def digest(self) -> str:
        """Hash of everything in it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def model_of(self, client: str) -> Model:
        """A client's personal model; the base where it has none."""
        who = self.clients[client]
        if who.personal is None:
            return ()
        parts = [(who.share, ref) for ref in (who.personal, *who.beside)] + [(1 - who.share, ref) for ref in who.mixed]
        return tuple((weight, ref) for weight, ref in parts if weight > 0)

    def mean(self, what: str, split: str) -> float:
        """Mean over the clients that came through of one loss (`base`, `cluster`, `other_cluster`, `personal`) on one split."""
        values = [v for c in self.clients.values() if (s := getattr(c, split)) is not None and (v := s[what]) is not None]
        return sum(values) / len(values) if values else float("nan")


def bind(store: Store, federation: Federation) -> None:
    """Tie the run's name to this configuration; more rounds extend it.

    Raises:
        ConfigError: the name stands for another configuration already, or the run that this one begins with has no such cluster.
    """
    path = f"runs/{federation.name}/federation.json"
    text = store.read_text(path)
    if text is not None:
        before = _federation(store, federation.name, text)
        if before.digest() != federation.digest():
            changed = _difference(before.model_dump(mode="json"), federation.model_dump(mode="json"))
            raise ConfigError(
                f"run '{federation.name}' exists with another configuration ({changed}); "
                f"give this one another name (--name) or remove the old run's folder and record to start over"
            )
        federation = federation.model_copy(update={"rounds": max(before.rounds, federation.rounds)})
        if before == federation:
            return
    else:
        beginning(store, federation)
    what = {"format": FORMAT, "digest": federation.digest(), "federation": federation.model_dump(mode="json")}
    store.write_text(path, json.dumps(what, indent=1))


def beginning(store: Store, federation: Federation) -> Ref | None:
    """The adapter of another run that this one begins with, if any.

    Raises:
        ConfigError: there is no such run or cluster.
    """
    begin = federation.begin
    if begin is None:
        return None
    bound(store, begin.run)
    records = rounds(store, begin.run)
    if not records or begin.cluster not in records[-1].clusters:
        known = ", ".join(map(str, records[-1].clusters)) if records else "none yet"
        raise ConfigError(f"begin: run '{begin.run}' has no cluster {begin.cluster}; its clusters: {known}")
    return records[-1].clusters[begin.cluster].adapter


def extend(store: Store, name: str, add_rounds: int, *, by: str) -> None:
    """Add rounds to a run that is complete; whoever calls again as the same `by` (a retried flow run) adds nothing.

    Raises:
        ConfigError: there is no run of this name.
    """
    federation, note = bound(store, name), f"runs/{name}/extended"
    if add_rounds and len(rounds(store, name)) >= federation.rounds and store.read_text(note) != by:
        bind(store, federation.model_copy(update={"rounds": federation.rounds + add_rounds}))
        store.write_text(note, by)


def _difference(before: dict[str, Any], after: dict[str, Any], at: str = "") -> str:
    """The first field that differs, as 'field: old → new'."""
    for key, old in before.items():
        new = after.get(key)
        if old != new and key not in FREE:
            if isinstance(old, dict) and isinstance(new, dict) and set(old) == set(new):
                return _difference(old, new, f"{at}{key}.")
            return f"{at}{key}: {old!r} → {new!r}"
    return "unknown difference"


def bound(store: Store, name: str) -> Federation:
    """The configuration of a run.

    Raises:
        ConfigError: there is no run of this name.
    """
    text = store.read_text(f"runs/{name}/federation.json")
    if text is None:
        known = names(store)
        raise ConfigError(f"there is no run '{name}'; known: {', '.join(known) if known else 'none yet, start one with `fedcore run`'}")
    return _federation(store, name, text)


def _federation(store: Store, name: str, text: str) -> Federation:
    """The configuration in a run's file.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        values = json.loads(text)["federation"]
        values["adapter"].setdefault("transport", "fp32")  # runs that began before it could be chosen
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"is damaged; remove it, and `fedcore run` with the federation's file and --name {name} finds again what was computed",
            at=f"{store.root}/runs/{name}/federation.json",
        ) from None
    return validated(Federation, values, name)


def names(store: Store) -> list[str]:
    """All runs."""
    return store.children("runs")


def _round_path(name: str, number: int) -> str:
    return f"runs/{name}/round-{number:04}.json"


def write_round(store: Store, name: str, record: RoundRecord) -> RoundRecord:
    """Keep a round's record; where the same round was recorded with the same content before, that one stays."""
    before = read_round(store, name, record.round)
    if before is not None and before.model_dump(exclude={"seconds", "finished"}) == record.model_dump(exclude={"seconds", "finished"}):
        return before
    store.write_text(_round_path(name, record.round), record.model_dump_json(indent=1))
    return record


def read_round(store: Store, name: str, number: int) -> RoundRecord | None:
    """One round's record, or None."""
    text = store.read_text(_round_path(name, number))
    if text is None:
        return None
    try:
        return RoundRecord.model_validate_json(text)
    except ValidationError:
        at = f"{store.root}/{_round_path(name, number)}"
        raise StoreError(
            f"is damaged, or another version's; use the version that wrote it, or remove the file: `fedcore resume {name}` makes it "
            "again from what its stages left",
            at=at,
        ) from None


def _published_path(name: str, number: int) -> str:
    return f"runs/{name}/published-{number:04}"


def is_published(store: Store, name: str, record: RoundRecord) -> bool:
    """Has exactly this record reached MLflow?"""
    return store.read_text(_published_path(name, record.round)) == record.digest()


def mark_published(store: Store, name: str, record: RoundRecord) -> None:
    """Note that this record has reached MLflow."""
    store.write_text(_published_path(name, record.round), record.digest())


def mark_unpublished(store: Store, name: str, number: int) -> None:
    """Let this round count as not in MLflow."""
    store.remove(_published_path(name, number))


def rounds(store: Store, name: str) -> list[RoundRecord]:
    """The finished rounds, from the first on without a gap."""
    out: list[RoundRecord] = []
    while (record := read_round(store, name, len(out) + 1)) is not None:
        out.append(record)
    return out


def champion(records: list[RoundRecord]) -> RoundRecord:
    """The round whose mean personal loss on the clients' tuning splits is lowest (the earliest of equals)."""
    loss = {r.round: r.mean("personal", "tune") for r in records}
    return min(records, key=lambda r: (math.isnan(loss[r.round]), loss[r.round], r.round))
