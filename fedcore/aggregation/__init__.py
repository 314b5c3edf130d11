"""Aggregation inside a cluster: one Protocol, one registry, one file per rule."""

from fedcore.aggregation.fedavg import fedavg
from fedcore.aggregation.rule import Aggregate, Aggregated, ideal, normalised
from fedcore.aggregation.svd import svd

AGGREGATIONS: dict[str, Aggregate] = {"fedavg": fedavg, "svd": svd}

__all__ = ["AGGREGATIONS", "Aggregate", "Aggregated", "ideal", "normalised"]
