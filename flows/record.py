"""Puts together the record of a round from what its stages left."""

from collections import Counter
from collections.abc import Container, Mapping
from typing import Any

from data.manifests import Manifest
from data.records import ClientRecord, ClusterRecord, RoundRecord, TrainingRecord
from data.store import Ref
from fedcore.config import Federation
from fedcore.errors import ConfigError, RoundFailed
from tasks.enrol import Enrolment
from tasks.train import TrainJob


def enrolments(record: RoundRecord) -> dict[str, Enrolment]:
    """Who was asked in a finished round, and with which data: whoever repairs it asks the same clients for the same things."""
    return {
        client: Enrolment(client=client, status="ok", digest=c.data, device=c.device, samples=c.samples, group=c.group)
        if c.training is not None
        else Enrolment(client=client, status="failed", reason=c.failed, digest=c.data, device=c.device, samples=c.samples, group=c.group)
        for client, c in record.clients.items()
        if c.asked
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
    lost = sorted(c for c, who in record.clients.items() if who.training is not None and c not in trained)
    if lost:
        raise RoundFailed(
            f"round {record.round} was finished with {lost[0]}, which cannot do its part again ({failed.get(lost[0])}); the record stays"
        )


def insist_on_measured(record: RoundRecord, scores: Mapping[str, Mapping[str, Any]], failed: dict[str, str | None]) -> None:
    """A finished round is repaired with every measurement that it had, or stays as it is.

    Raises:
        RoundFailed: one is lacking.
    """
    lost = sorted(c for c, who in record.clients.items() if who.test is not None and not scores.get(c))
    if lost:
        raise RoundFailed(
            f"round {record.round} was finished with the losses of {lost[0]}, which cannot measure them again ({failed.get(lost[0])}); "
            "the record stays"
        )


def losses_by_split(plain: Manifest | None, measured: Manifest | None) -> dict[str, Any]:
    """A client's losses, the base's and the adapters' together, those `by_cluster`, its `share`; empty where either is missing."""
    if plain is None or measured is None:
        return {}
    of_splits = {split: {**plain.record[split], **measured.record[split]} for split in plain.record}
    return {**of_splits, "by_cluster": measured.record["by_cluster"], "share": measured.record["share"]}


def kept(before: ClientRecord | None, cluster: str | None) -> ClientRecord:
    """What the record keeps of a client in any case: what it had, without measurements, and the `cluster` that it is in by now."""
    had = before or ClientRecord()
    known = had.cluster if cluster is None else int(cluster)
    return had.model_copy(
        update={"asked": False, "cluster": known, "training": None, "tune": None, "test": None, "by_cluster": {}, "failed": None}
    )


def enrolled_record(had: ClientRecord, e: Enrolment, failed: str | None) -> ClientRecord:
    """The same of one that was asked, and came with the data that it enrolled with, if it could."""
    data = {"data": e.digest, "samples": e.samples, "device": e.device, "group": e.group} if e.digest else {}
    return had.model_copy(update={"asked": True, "failed": failed, **data})


def trained_record(
    had: ClientRecord, requirement: Ref, job: TrainJob, trained: Manifest, mixed: tuple[Ref, ...], scores: dict[str, Any]
) -> ClientRecord:
    """The same of one that came through."""
    personal, *beside = personal_parts(job, trained)
    return had.model_copy(
        update={
            "requirement": requirement,
            "upload": trained.outputs["adapter"],
            "personal": personal,
            "beside": tuple(beside),
            "mixed": mixed,
            "training": TrainingRecord.model_validate(trained.record),
            "tune": scores.get("tune"),
            "test": scores.get("test"),
            "by_cluster": scores.get("by_cluster", {}),
            "share": scores.get("share", 0.5 if mixed else 1.0),
        }
    )


def personal_parts(job: TrainJob, trained: Manifest) -> tuple[Ref, ...]:
    """The adapters that make up a client's personal model, its own one first."""
    shared = trained.outputs["adapter"]
    of_shared = (shared,) if job.personal.method == "dual" else ()
    return (trained.outputs.get("personal", shared), *of_shared, *job.beside)


def resting(members: dict[str, list[str]], active: Container[str], before: RoundRecord | None) -> dict[str, ClusterRecord]:
    """Clusters of which nobody took part: as they were; a new one has the adapter of the one that most of its members were in."""
    out: dict[str, ClusterRecord] = {}
    if before is None:
        return out
    for i, clients in members.items():
        if i not in active:
            were = Counter(known.cluster for c in clients if (known := before.clients[c]).cluster in before.clusters)
            origin = min(were, key=lambda old: (-were[old], old != int(i), old)) if were else int(i)
            out[i] = before.clusters[origin].model_copy(update={"members": clients, "aggregation_error": None})
    return out


def cluster_records(
    members: dict[str, list[str]], aggregated: dict[str, Manifest], at_rest: dict[str, ClusterRecord], interacted: Manifest
) -> dict[int, ClusterRecord]:
    """What the round's record keeps of its clusters."""
    made = interacted.outputs
    active = {
        int(i): ClusterRecord(
            members=members[i],
            adapter=made[f"cluster-{i}"],
            own=made[f"own-{i}"],
            beside=made.get(f"beside-{i}"),
            state=aggregated[i].outputs.get("state"),
            rank=interacted.record["rank"][i],
            aggregation_error=aggregated[i].record["error"],
        )
        for i in aggregated
    }
    return dict(sorted((active | {int(i): record for i, record in at_rest.items()}).items()))
