"""Who learns together: clients grouped by wishes, by what their adapters learnt, or by their own choice."""

from fedcore.clustering.groups import Clusters, absorb_small, chosen, cluster, drawn, nearest, soft_shares
from fedcore.clustering.methods import BY_LOSS, CLUSTERINGS, Group
from fedcore.clustering.vectors import MOST_ALIKE, Alike, Vectors, View, cosines, embedded, gram, remembered, seen, unit

__all__ = [
    "BY_LOSS",
    "CLUSTERINGS",
    "MOST_ALIKE",
    "Alike",
    "Clusters",
    "Group",
    "Vectors",
    "View",
    "absorb_small",
    "chosen",
    "cluster",
    "cosines",
    "drawn",
    "embedded",
    "gram",
    "nearest",
    "remembered",
    "seen",
    "soft_shares",
    "unit",
]
