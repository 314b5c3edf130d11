"""One federation's configuration, the server's part only: who takes part, methods, budgets. Never a prompt or picture of a client."""

from fedcore.config.parts import (
    AdapterConfig,
    AggregationConfig,
    ClusteringConfig,
    EvaluationConfig,
    InteractionConfig,
    PersonalConfig,
    TrainingConfig,
)
from fedcore.config.whole import FREE, NAME, Federation, federation

__all__ = [
    "FREE",
    "NAME",
    "AdapterConfig",
    "AggregationConfig",
    "ClusteringConfig",
    "EvaluationConfig",
    "Federation",
    "InteractionConfig",
    "PersonalConfig",
    "TrainingConfig",
    "federation",
]
