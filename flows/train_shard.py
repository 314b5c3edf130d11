"""What a worker pool or a site runs: a stage for a shard of clients, or a gallery; outcomes go to the store as soon as they are there."""

from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from prefect import flow

from data.boxes import leave
from data.clients import serve
from data.home import Home
from tasks._dispatch import close, workers
from tasks.remote import REMOTE


@flow(name="train-shard", flow_run_name="{stage} {label}", validate_parameters=False)
def train_shard(
    run: str,
    stage: str,
    label: str,  # noqa: ARG001 for people
    jobs: list[dict[str, Any]],
    box: str,
    timeout: float,
) -> None:
    """Do `jobs` of `stage` for the run `run`, side by side, at most `timeout` seconds each, and leave the outcomes in `box`."""
    home, what = Home.current(), REMOTE[stage]
    serve(home, run)
    todo = [what.job.model_validate(job) for job in jobs]
    try:
        with ThreadPoolExecutor(workers()) as threads:
            for done in as_completed(threads.submit(what.run, job, timeout) for job in todo):
                outcome = done.result()
                leave(home.server(), box, outcome.client, outcome.model_dump_json())
    finally:
        close()
