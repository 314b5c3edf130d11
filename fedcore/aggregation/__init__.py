"""Aggregation inside a cluster: one Protocol, one registry, one file per rule."""

from fedcore.aggregation.fedavg import FEDAVG
from fedcore.aggregation.fedex import FEDEX
from fedcore.aggregation.hetlora import HETLORA
from fedcore.aggregation.lora_fair import LORA_FAIR
from fedcore.aggregation.one_factor import FEDSA, FFA, ROLORA
from fedcore.aggregation.rule import Aggregated, Combine, Rule, Trains, ideal, shares_of
from fedcore.aggregation.stack import STACK
from fedcore.aggregation.svd import SVD, SVD_REST
from fedcore.aggregation.svd_rank_aware import SVD_RANK_AWARE

AGGREGATIONS: dict[str, Rule] = {
    "fedavg": FEDAVG,
    "fedex": FEDEX,
    "fedsa": FEDSA,
    "ffa": FFA,
    "hetlora": HETLORA,
    "lora_fair": LORA_FAIR,
    "rolora": ROLORA,
    "stack": STACK,
    "svd": SVD,
    "svd_rank_aware": SVD_RANK_AWARE,
    "svd_rest": SVD_REST,
}

__all__ = ["AGGREGATIONS", "Aggregated", "Combine", "Rule", "Trains", "ideal", "shares_of"]
