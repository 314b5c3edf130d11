"""How well clusters match the true styles when every client phrases its wish in other words."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.base.load import load_base
from data.clients import load_client
from data.federations import client_folder
from fedcore.config import Federation
from fedcore.errors import ConfigError


class Paraphrases(BaseModel):
    """Sets of statements by client."""

    model_config = ConfigDict(extra="forbid")

    sets: Annotated[list[dict[str, str]], Field(min_length=1)]


def statements(file: Path, federation: Federation, paraphrases: Path) -> Iterator[tuple[int, int, float]]:
    """Set number, clusters found and ARI against the clients' known groups, for every set of statements in `paraphrases`.

    Clients, prompts and clustering settings are the federation's; only the statements are replaced. Runs on the clients'
    side of a simulation, since it reads what clients are.

    Raises:
        ConfigError: the file is missing or is no list of sets that name every client, or the federation's method of clustering
            looks at no wishes.
    """
    from sklearn.metrics import adjusted_rand_score

    from fedcore.clustering import CLUSTERINGS, cluster
    from fedcore.prompts import requirement

    try:
        sets = Paraphrases.model_validate(yaml.safe_load(paraphrases.read_text(encoding="utf-8"))).sets
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError):
        raise ConfigError(f"{paraphrases}: expected a key 'sets' with a list of statements by client") from None
    for number, by_client in enumerate(sets, 1):
        if missing := sorted(set(federation.clients) - set(by_client)):
            raise ConfigError(f"{paraphrases}: set {number} has no statement for client '{missing[0]}'")
    want = federation.clustering
    if want.method not in CLUSTERINGS or want.method == "alone":
        raise ConfigError(f"clustering.method: {want.method} looks at no wishes; choose another one")
    base = load_base(federation.base)
    clients = {c: load_client(c, client_folder(file)) for c in federation.clients}
    prompts = {c: [row.prompt for row in client.rows if row.split == "train"] for c, client in clients.items()}
    for number, by_client in enumerate(sets, 1):
        vectors = {c: requirement(base, by_client[c], prompts[c]).double().numpy() for c in federation.clients}
        k = None if want.k == "auto" else want.k
        found = cluster(vectors, k=k, most=want.most, min_size=want.min_size, seed=federation.seed, method=want.method)
        home = {c: i for i, members in found.members.items() for c in members}
        ari = float(adjusted_rand_score([clients[c].group or "" for c in federation.clients], [home[c] for c in federation.clients]))
        yield number, len(found.members), ari
