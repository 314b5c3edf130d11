"""A federation as a whole: who takes part, what its parts are told, and what a run's name is bound to."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from fedcore.base import Device, Precision
from fedcore.config.conflicts import conflicts
from fedcore.config.parts import (
    AdapterConfig,
    AggregationConfig,
    BeginConfig,
    ClusteringConfig,
    EvaluationConfig,
    InteractionConfig,
    Part,
    ParticipationConfig,
    PersonalConfig,
    Positive,
    Share,
    TrainingConfig,
)
from fedcore.interaction import INTERACTIONS
from fedcore.validation import validated

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
FREE = ("rounds", "client_timeout", "device", "dispatch", "sites")
"""What may change in a run without changing its results."""
RESERVED = {"bases", "prefect", "mlflow", "server", "clients", "logs"}


class Federation(Part):
    """One federation. `quorum`: share of the clients that must come through, or the round fails.

    `precision` is that of the base's weights, `device` where models lie. `client_timeout`: seconds that one client may take, and
    that a site may keep silent. `dispatch: pool` sends the clients' stages to the workers of the `gpu` pool. `sites` names the
    clients of each site; its stages go to the site's own queue.
    """

    name: str
    base: str = "embedded"
    clients: Annotated[tuple[str, ...], Field(min_length=1)]
    rounds: Positive = 3
    seed: int = 0
    quorum: Share = 0.75
    client_timeout: Annotated[float, Field(gt=0)] = 600.0
    precision: Precision = "fp32"
    device: Device = "auto"
    dispatch: Literal["inline", "pool"] = "inline"
    sites: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    begin: BeginConfig | None = None
    participation: ParticipationConfig = ParticipationConfig()
    adapter: AdapterConfig = AdapterConfig()
    training: TrainingConfig = TrainingConfig()
    personal: PersonalConfig = PersonalConfig()
    clustering: ClusteringConfig = ClusteringConfig()
    aggregation: AggregationConfig = AggregationConfig()
    interaction: InteractionConfig = InteractionConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @field_validator("name")
    @classmethod
    def _usable_name(cls, value: str) -> str:
        if not NAME.fullmatch(value) or value in RESERVED:
            raise ValueError("must be lower-case letters, digits, '-' and '_', and none of " + ", ".join(sorted(RESERVED)))
        return value

    @model_validator(mode="before")
    @classmethod
    def _clients_of_sites(cls, values: Any) -> Any:
        """Where sites are given, they name the clients."""
        if isinstance(values, dict) and isinstance(values.get("sites"), dict) and values["sites"] and "clients" not in values:
            return {**values, "clients": [c for clients in values["sites"].values() if isinstance(clients, list) for c in clients]}
        return values

    @field_validator("sites")
    @classmethod
    def _usable_sites(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        bad = [site for site in value if not NAME.fullmatch(site)]
        if bad:
            raise ValueError(f"'{bad[0]}' is no site name: use lower-case letters, digits, '-' and '_'")
        return {site: tuple(sorted(clients)) for site, clients in sorted(value.items())}

    @field_validator("clients")
    @classmethod
    def _usable_clients(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        bad = [c for c in value if not NAME.fullmatch(c)]
        if bad:
            raise ValueError(f"'{bad[0]}' is no client id: use lower-case letters, digits, '-' and '_'")
        twice = sorted(c for c, times in Counter(value).items() if times > 1)
        if twice:
            raise ValueError(f"'{twice[0]}' is named twice")
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _fits(self) -> "Federation":
        if self.sites and sorted(c for clients in self.sites.values() for c in clients) != list(self.clients):
            raise ValueError("sites must name every client once; leave 'clients' out, the sites' are taken")
        for conflict in conflicts(self):
            raise ValueError(conflict)
        return self

    @property
    def beside(self) -> bool:
        """Does the rule, or the exchange, set another frozen adapter beside a client's own one in every round?"""
        return self.aggregation.rule.split not in ("cut", "head") or INTERACTIONS[self.interaction.method].beside

    @property
    def away(self) -> bool:
        """Do clients compute elsewhere than the round itself?"""
        return self.dispatch == "pool" or bool(self.sites)

    def digest(self) -> str:
        """What a run's name is bound to: everything but how many rounds there are, where clients compute and how long they may take."""
        what = self.model_dump(mode="json", exclude=set(FREE))
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def federation(values: Mapping[str, Any], source: str) -> Federation:
    """Validate what a federation file holds.

    Raises:
        ConfigError: one line that names `source`, the field, what is wrong and what would be right.
    """
    return validated(Federation, values, source)
