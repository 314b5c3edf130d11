"""What each part of a round is told: the sections of a federation file."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from fedcore.adapters import Transport
from fedcore.aggregation import AGGREGATIONS, Rule
from fedcore.aggregation.server import Optimiser, Step
from fedcore.clustering import BY_LOSS, CLUSTERINGS, View
from fedcore.course import MOST_GUIDANCE, MOST_STEPS
from fedcore.errors import ConfigError
from fedcore.injection import Target
from fedcore.interaction import INTERACTIONS
from fedcore.personal import TRAINED, Method
from fedcore.training import Settings
from fedcore.validation import one_of

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """No unknown keys, nothing that changes, no numbers that are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AdapterConfig(Part):
    """`rank`: one for all, or one per device class. The scale is alpha / rank; alpha defaults to the rank (scale 1).

    `transport`: in which precision factors travel, both ways; everything is computed in float32 or better.
    """

    rank: Positive | dict[str, Positive] = 8
    alpha: Annotated[float, Field(gt=0, le=1e6)] | None = None
    target: Target = "attention"
    transport: Transport = "fp16"

    def rank_of(self, device: str) -> int:
        """The rank of a client's adapter.

        Raises:
            ConfigError: ranks are given per device class and this class has none.
        """
        if isinstance(self.rank, int):
            return self.rank
        if device not in self.rank:
            raise ConfigError(f"adapter.rank has no entry for device class '{device}'; it names {', '.join(sorted(self.rank))}")
        return self.rank[device]

    def scale_of(self, rank: int) -> float:
        """The scale, alpha over rank, as float32 holds it: it travels with the factors."""
        return 1.0 if self.alpha is None else float(np.float32(self.alpha / rank))


def _straight(first: float, last: float | None, over: int, number: int) -> float:
    """From `first` in round 1 in a straight line to `last` in round `over`, and there ever after."""
    return first if last is None else first + (last - first) * min(1.0, (number - 1) / (over - 1))


class TrainingConfig(Part):
    """Local training of one client in one round; see `fedcore.training.Settings`.

    With `lr_last` the learning rate moves there in a straight line, from the first round until round `over`.
    """

    steps: Positive = 40
    batch: Positive = 8
    lr: Annotated[float, Field(gt=0)] = 1e-3
    lr_last: Annotated[float, Field(gt=0)] | None = None
    over: Annotated[int, Field(ge=2)] = 10
    min_snr: Annotated[float, Field(ge=0)] = 5.0
    caption_dropout: Share = 0.1
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    prox: Annotated[float, Field(ge=0)] = 0.0
    accumulate: Positive = 1
    checkpointing: bool = False

    def in_round(self, number: int, steps: int) -> "TrainingConfig":
        """What a client that manages so many `steps` is given in round `number`."""
        lr = _straight(self.lr, self.lr_last, self.over, number)
        return self.model_copy(update={"steps": steps, "lr": lr, "lr_last": None})

    def settings(self) -> Settings:
        """As plain values."""
        return Settings(**self.model_dump(exclude={"lr_last", "over"}))


class PersonalConfig(Part):
    """What a client keeps for itself.

    `last`: what its local training of the round made. `mixture`: that and its cluster's new adapter, in the shares that suit
    its tuning pictures best. `ditto`: an adapter of its own, trained for `steps` more with the
    proximal weight `prox` towards its cluster's. `dual`: one trained for `steps` more beside the shared one (FedDPA).
    """

    method: Method = "mixture"
    steps: Positive = 20
    prox: Annotated[float, Field(ge=0)] = 0.1

    @property
    def trains(self) -> bool:
        """Is something trained for the client alone?"""
        return self.method in TRAINED


class ParticipationConfig(Part):
    """Who takes part in a round, and how much it manages; see `fedcore.participation`."""

    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    available: Annotated[float, Field(gt=0, le=1)] = 1.0
    period: Positive = 1
    stragglers: Share = 0.0
    work: Annotated[float, Field(gt=0, le=1)] = 0.5


class ClusteringConfig(Part):
    """Who learns together: `method` groups clients `on` their wishes, what their adapters learnt, or both; or they choose (`ifca`).

    `k: auto` lets silhouette choose up to `most`. For the first `warmup` rounds all learn together: one round's few steps say
    little of what a client draws, and everybody begins better from what all have in common. `soft`: temperature of soft
    membership; none by default.
    """

    method: str = "k-means"
    on: View = "both"
    k: Positive | Literal["auto"] = "auto"
    most: Positive = 8
    min_size: Positive = 2
    warmup: Annotated[int, Field(ge=0)] = 1
    soft: Annotated[float, Field(gt=0)] | None = None

    def in_round(self, number: int) -> "ClusteringConfig":
        """What holds in round `number`."""
        return (
            self if number > self.warmup or self.method == "alone" else self.model_copy(update={"method": "k-means", "k": 1, "soft": None})
        )

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        return one_of(value, {**CLUSTERINGS, BY_LOSS: None})


class ServerConfig(Part):
    """The server's optimiser on a round's mean update; see `fedcore.aggregation.server.Step`."""

    method: Optimiser = "none"
    lr: Annotated[float, Field(gt=0)] = 1.0
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    tau: Annotated[float, Field(gt=0)] = 1e-3

    def step(self) -> Step:
        """As plain values."""
        return Step(**self.model_dump())


class AggregationConfig(Part):
    """The rule inside a cluster; the cluster's adapter keeps the share `energy` of the exact mean, at most `rank`.

    Clients weigh by their `pictures`, or all the same (`uniform`).
    """

    method: str = "svd"
    rank: Positive = 32
    energy: Annotated[float, Field(gt=0, le=1)] = 0.999
    weights: Literal["pictures", "uniform"] = "pictures"
    server: ServerConfig = ServerConfig()

    @property
    def rule(self) -> Rule:
        """What `method` names."""
        return AGGREGATIONS[self.method]

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        return one_of(value, AGGREGATIONS)


class InteractionConfig(Part):
    """Exchange between clusters: own share `own`, the rest by softmax of cosines at `temperature`.

    With `own_last` the own share moves there in a straight line, from the first round until round `over`.
    """

    method: str = "similarity"
    own: Share = 0.9
    own_last: Share | None = None
    over: Annotated[int, Field(ge=2)] = 10
    temperature: Annotated[float, Field(gt=0)] = 0.2
    router_temperature: Annotated[float, Field(gt=0)] = 0.1

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        return one_of(value, INTERACTIONS)

    def own_in(self, number: int) -> float:
        """The own share in round `number`."""
        return _straight(self.own, self.own_last, self.over, number)


class BeginConfig(Part):
    """Begin with the adapter that a cluster of another run ended with, instead of a fresh one."""

    run: str
    cluster: Annotated[int, Field(ge=0)] = 0


class EvaluationConfig(Part):
    """`timesteps` fixed noise levels per held-out picture; the gallery shows `prompts`, drawn in `steps` at `guidance`.

    `others`: measure the other clusters' adapters as well, which costs as much as the own one for each.
    """

    timesteps: Positive = 8
    others: bool = True
    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = ("a cat", "a house", "a car", "a flower")
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 24
    guidance: Annotated[float, Field(ge=-MOST_GUIDANCE, le=MOST_GUIDANCE)] = 3.0
    hybrids: Annotated[int, Field(ge=0)] = 2
