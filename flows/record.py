"""Puts together the record of a round from what its stages left."""

from typing import Any

from data.manifests import Manifest
from data.records import ClientRecord, ClusterRecord
from data.store import Ref
from tasks.enrol import Enrolment


def losses_by_split(plain: Manifest | None, measured: Manifest | None) -> dict[str, dict[str, float | None]]:
    """A client's losses, the base's and the adapters' together; empty where either is missing."""
    if plain is None or measured is None:
        return {}
    return {split: {**plain.record[split], **measured.record[split]} for split in plain.record}


def client_record(e: Enrolment, cluster: str | None, trained: Manifest | None, scores: dict[str, Any], failed: str | None) -> ClientRecord:
    """What the round's record keeps of one client."""
    return ClientRecord(
        samples=e.samples,
        device=e.device,
        group=e.group,
        cluster=None if cluster is None else int(cluster),
        personal=trained.outputs["adapter"] if trained else None,
        training=trained.record if trained else None,
        tune=scores.get("tune"),
        test=scores.get("test"),
        failed=failed,
    )


def cluster_records(
    members: dict[str, list[str]], mixed: dict[str, Ref], aggregated: dict[str, Manifest], interacted: Manifest
) -> dict[int, ClusterRecord]:
    """What the round's record keeps of its clusters."""
    return {
        int(i): ClusterRecord(
            members=members[i],
            adapter=mixed[i],
            rank=interacted.record["rank"][i],
            aggregation_error=aggregated[i].record["error"],
        )
        for i in members
    }
