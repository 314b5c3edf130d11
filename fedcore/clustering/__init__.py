"""Who learns together: clients grouped by wishes, by what their adapters learnt, or by their own choice."""

from fedcore.clustering.groups import Clusters, absorb_small, chosen, cluster, drawn, nearest, soft_shares
from fedcore.clustering.methods import BY_LOSS, CLUSTERINGS, Group
from fedcore.clustering.vectors import Vectors, View, embedded, gram, seen, unit

__all__ = [
    "BY_LOSS",
    "CLUSTERINGS",
    "Clusters",
    "Group",
    "Vectors",
    "View",
    "absorb_small",
    "chosen",
    "cluster",
    "drawn",
    "embedded",
    "gram",
    "nearest",
    "seen",
    "soft_shares",
    "unit",
]
