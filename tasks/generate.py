"""Generate: a user's picture, made on the client's side; the prompt is encoded there and goes nowhere else."""

import io
from collections.abc import Callable
from pathlib import Path

from data.home import Home
from data.records import Model, RoundRecord, bound, rounds
from data.store import write_atomically
from fedcore.errors import InputError
from tasks._models import load_model


def model_of(record: RoundRecord, client: str | None, cluster: int | None) -> Model:
    """What to draw with: a client's personal model, a cluster's, or the base.

    Raises:
        InputError: there is no such client or cluster in the round.
    """
    if client is not None:
        known = record.clients.get(client)
        if known is None:
            raise InputError(f"there is no client '{client}' in this run; its clients are {', '.join(sorted(record.clients))}")
        if known.personal is None:
            raise InputError(f"client '{client}' has no adapter of round {record.round}: {known.failed}")
        return record.model_of(client)
    if cluster is not None:
        if cluster not in record.clusters:
            raise InputError(f"there is no cluster {cluster} in this run; its clusters are {', '.join(map(str, sorted(record.clusters)))}")
        return ((1.0, record.clusters[cluster].adapter),)
    return ()


def generate(
    home: Home,
    name: str,
    *,
    client: str | None,
    cluster: int | None,
    prompt: str,
    out: Path,
    seed: int,
    steps: int,
    guidance: float,
    on_step: Callable[[int, int], None],
) -> None:
    """Draw one picture with the last round's adapter and write it as PNG. Equal arguments give equal bytes.

    Raises:
        InputError: no such run, client or cluster, or a run without a finished round.
    """
    federation, records = bound(home.server(), name), rounds(home.server(), name)
    if not records:
        raise InputError(f"run '{name}' has no finished round yet; `fedcore run` continues it")
    model = model_of(records[-1], client, cluster)
    import torch
    from PIL import Image

    from data.base.load import load_base
    from fedcore import generation
    from fedcore.prompts import encode

    torch.set_num_threads(1)
    base = load_base(federation.base)
    prompts = encode(base, [prompt]).prompts
    pictures = generation.generate(base, prompts, load_model(model), seeds=[seed], steps=steps, guidance=guidance, on_step=on_step)
    png = io.BytesIO()
    Image.fromarray(pictures[0].permute(1, 2, 0).numpy()).save(png, "PNG")
    write_atomically(out, png.getvalue())
