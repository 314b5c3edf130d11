"""Puts together the record of a round from what its stages left."""

from collections.abc import Container
from typing import Any

from data.manifests import Manifest
from data.records import ClientRecord, ClusterRecord, RoundRecord, TrainingRecord
from data.store import Ref
from fedcore.config import Federation
from fedcore.errors import ConfigError, RoundFailed
from tasks.enrol import Enrolment


def enrolments(record: RoundRecord) -> dict[str, Enrolment]:
    """Who took part in a finished round, and with which data: whoever repairs it asks the same clients for the same things."""
    return {
        client: Enrolment(client=client, status="ok", digest=c.data, device=c.device, samples=c.samples, group=c.group)
        if c.personal is not None
        else Enrolment(client=client, status="failed", reason=c.failed, digest=c.data, device=c.device, samples=c.samples, group=c.group)
        for client, c in record.clients.items()
    }


def insist_on_base(record: RoundRecord, f: Federation, digest: str) -> None:
    """All rounds of a run are computed with the same weights.

    Raises:
        ConfigError: the base is another by now.
    """
    if record.base != digest:
        raise ConfigError(
            f"run '{f.name}': round {record.round} was computed with other weights of base '{f.base}' ({record.base[:12]}) than lie there "
            f"now ({digest[:12]}); put them back, or start another run with --name"
        )


def insist_on_all(record: RoundRecord, trained: Container[str], failed: dict[str, str | None]) -> None:
    """A finished round is repaired with every client that it had, or stays as it is.

    Raises:
        RoundFailed: one did not come through.
    """
    lost = sorted(c for c, who in record.clients.items() if who.personal is not None and c not in trained)
    if lost:
        raise RoundFailed(
            f"round {record.round} was finished with {lost[0]}, which cannot do its part again ({failed.get(lost[0])}); the record stays"
        )


def losses_by_split(plain: Manifest | None, measured: Manifest | None) -> dict[str, dict[str, float | None]]:
    """A client's losses, the base's and the adapters' together; empty where either is missing."""
    if plain is None or measured is None:
        return {}
    return {split: {**plain.record[split], **measured.record[split]} for split in plain.record}


def client_record(e: Enrolment, cluster: str | None, trained: Manifest | None, scores: dict[str, Any], failed: str | None) -> ClientRecord:
    """What the round's record keeps of one client."""
    return ClientRecord(
        data=e.digest,
        samples=e.samples,
        device=e.device,
        group=e.group,
        cluster=None if cluster is None else int(cluster),
        personal=trained.outputs["adapter"] if trained else None,
        training=TrainingRecord.model_validate(trained.record) if trained else None,
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
