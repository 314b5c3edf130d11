"""What the server insists on before it uses a client's answer; one that cannot be used costs nobody but that client anything."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from data.home import Home
from data.manifests import Manifest
from data.records import MOST
from fedcore.errors import StoreError
from fedcore.personal import SHARES
from tasks._client import Outcome
from tasks._stage import ClientJob
from tasks.enrol import Enrolment
from tasks.evaluate import EvaluateJob
from tasks.remote import REMOTE

MOST_TEXT = 2**18
"""Of an answer: outputs' hashes, a curve of a hundred points, losses of every cluster."""
MOST_BYTES = 4096
"""Of a requirement vector's file: sixteen numbers and a header."""


def read(stage: str, owner: str, job: Any, text: str) -> Outcome | Enrolment:
    """The answer to `job` that came back as JSON; a named failure of `owner` where it is none."""
    kind = REMOTE[stage].outcome
    if len(text) > MOST_TEXT:
        return kind(client=owner, status="failed", reason=f"its answer has more than {MOST_TEXT:,} characters")
    try:
        answer = kind.model_validate_json(text)
    except ValidationError:
        return kind(client=owner, status="failed", reason="its answer cannot be read; does it run the same version?")
    if answer.client != owner:
        return kind(client=owner, status="failed", reason="answered in another's name")
    if isinstance(answer, Outcome) and answer.status == "ok" and (answer.manifest is None or answer.manifest.key != job.key()):
        return kind(client=owner, status="failed", reason="answered another job")
    return answer


def refused(outcome: Outcome, reason: str | None) -> Outcome:
    """The outcome, or its refusal where there is a reason."""
    return outcome if reason is None else Outcome(client=outcome.client, status="refused", reason=reason)


def wish(manifest: Manifest, dims: int) -> str | None:
    """Why what came back from `encode` is no unit vector of `dims` numbers, or None."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    ref = manifest.outputs.get("requirement")
    if ref is None or ref.bytes > MOST_BYTES:
        return "handed over no requirement vector" if ref is None else f"its requirement vector has {ref.bytes:,} bytes"
    try:
        vector = load(Home.current().server().get(ref))["requirement"]
    except (SafetensorError, KeyError, StoreError) as error:
        return f"its requirement vector cannot be read ({type(error).__name__})"
    if vector.shape != (dims,) or not np.isfinite(vector).all() or abs(float(np.linalg.norm(vector.astype(np.float64))) - 1) > 1e-3:
        return f"its requirement vector is no unit vector of {dims} numbers"
    return None


def losses(manifest: Manifest, job: ClientJob) -> str | None:
    """Why what came back from `baseline` or `evaluate` are no losses by split, or None."""
    names = {"baseline": {"base"}, "evaluate": {"cluster", "other_cluster", "personal"}}[job.stage]
    if isinstance(job, EvaluateJob):
        by_cluster = manifest.record.get("by_cluster")
        share = manifest.record.get("share")
        if not isinstance(share, float) or share not in (SHARES if job.mixed else (1.0,)):
            return "its share of its own adapter is none that was asked for"
        if not isinstance(by_cluster, Mapping) or not set(by_cluster) <= set(job.clusters) or not all(map(_loss, by_cluster.values())):
            return "its losses of the clusters' adapters are not as asked"
    for split, of in splits(manifest).items():
        if split not in ("tune", "test") or not isinstance(of, Mapping) or set(of) != names:
            return "its losses are not named as asked"
        if not all(_loss(value) or (name == "other_cluster" and value is None) for name, value in of.items()):
            return "its losses are not finite numbers"
    return None


def splits(manifest: Manifest) -> dict[str, Any]:
    """The losses by split in an answer."""
    return {split: of for split, of in manifest.record.items() if split not in ("by_cluster", "share")}


def measured(plain: Mapping[str, Outcome]) -> Callable[[Manifest, EvaluateJob], str | None]:
    """As `losses`, for evaluations of clients whose baselines are `plain`: both are of the same splits."""

    def problem(manifest: Manifest, job: EvaluateJob) -> str | None:
        before = plain[job.client].manifest
        same = before is None or set(splits(before)) == set(splits(manifest))
        return losses(manifest, job) if same else "measured other splits than before"

    return problem


def _loss(value: object) -> bool:
    return isinstance(value, float) and 0 <= value <= MOST
