"""Encode: on the client's side, its statement and prompts become one requirement vector; only the vector leaves."""

from collections.abc import Sequence
from typing import ClassVar

from prefect import task

from data.home import Home
from tasks._client import Outcome, run_clients
from tasks._stage import STAGE, ClientJob, Made


class EncodeJob(ClientJob):
    """The vector depends on the client's data and the base alone."""

    stage: ClassVar[str] = "encode"


def compute(job: EncodeJob) -> Made:
    """The requirement vector as a blob; latents and prompt encodings stay in the client's cache."""
    from safetensors.torch import save

    from data.clients import load_enrolled
    from data.encoded import examples
    from fedcore.prompts import requirement

    client, base = load_enrolled(job.client, job.data), job.open_base()
    examples(client, base, home=Home.current())
    vector = requirement(base, client.statement, [row.prompt for row in client.rows if row.split == "train"])
    return Made({"requirement": Home.current().server().put(save({"requirement": vector}), "requirement", ".safetensors")})


@task(name="encode", task_run_name="encode {label}", **STAGE)
def encode(jobs: Sequence[EncodeJob], label: str, timeout: float) -> list[Outcome]:  # noqa: ARG001 the label is for people
    """One outcome a client."""
    return run_clients(compute, jobs, timeout)
