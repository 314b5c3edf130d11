"""The flows as prefect.yaml names them.

Prefect 3.8 imports what it is to deploy, and refuses to deploy to pools that are not there: when `prefect deploy` imports this,
the server gets the pools that it lacks.
"""

import sys
from pathlib import Path

from flows.deploy import missing_pools
from flows.round import federated_round
from flows.train_shard import train_shard
from flows.training import federated_training

__all__ = ["federated_round", "federated_training", "train_shard"]

if {"prefect", "deploy"} <= {*Path(sys.argv[0]).parts, *sys.argv[1:]}:
    missing_pools(Path.cwd())
