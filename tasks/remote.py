"""The stages that may run somewhere else than the round itself: what travels there, what comes back, and what does the work."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel

from tasks import encode, enrol, evaluate, gallery, train
from tasks._client import Outcome, run_client
from tasks.enrol import Enrolment


@dataclass(frozen=True)
class Remote:
    """`job` and `outcome` are the types that travel as JSON; `run(job, timeout)` does one job in a worker process."""

    job: type[BaseModel]
    outcome: type[Outcome] | type[Enrolment]
    run: Callable[[Any, float], Outcome | Enrolment]


REMOTE = {
    "enrol": Remote(enrol.EnrolJob, Enrolment, enrol.enrol_client),
    "encode": Remote(encode.EncodeJob, Outcome, partial(run_client, encode.compute)),
    "train": Remote(train.TrainJob, Outcome, partial(run_client, train.compute)),
    "baseline": Remote(evaluate.BaselineJob, Outcome, partial(run_client, evaluate.measure_base)),
    "evaluate": Remote(evaluate.EvaluateJob, Outcome, partial(run_client, evaluate.measure)),
    "gallery": Remote(gallery.GalleryJob, Outcome, gallery.paint_elsewhere),
}
