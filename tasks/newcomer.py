"""Newcomer: a user with a wish and no pictures gets the adapter of the cluster that it is nearest to, without any training."""

from data.home import Home
from tasks._models import base_of
from tasks.cluster import read_clusters
from tasks.generate import last_round


def nearest_cluster(home: Home, name: str, wish: str) -> int:
    """The cluster of a run's last round whose clients' wishes are nearest; the wish is encoded here and kept nowhere.

    Raises:
        InputError: the run has no finished round yet.
        ConfigError: there is no run of this name.
        BaseModelError: the base cannot be opened, or holds other weights by now.
    """
    from fedcore.clustering import nearest
    from fedcore.prompts import THINGS, requirement

    record = last_round(home, name)
    clusters = read_clusters(home.server().get(record.clusters_ref))
    return nearest(requirement(base_of(home, name, record), wish, THINGS).double().numpy(), clusters)
