"""A client's pictures and prompts as the model sees them, encoded once and kept on the client's side only."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from data.clients import Client
from data.home import Home
from data.store import write_atomically
from data.tables import Row, Split, picture
from fedcore.base import BaseModel, Conditioning
from fedcore.errors import TableError
from fedcore.latents import picture_size, posterior
from fedcore.prompts import encode
from fedcore.training import Examples

VERSION = 4
"""Part of the cache's key: raise it when the way pictures are turned into latents changes."""


def examples(client: Client, base: BaseModel, *, home: Home) -> dict[Split, Examples]:
    """Latents and prompt encodings by split, in the table's order.

    The cache's key is the client's digest, the base's digest and precision, and the version of this transform; rows are kept by their
    index in the table, so a picture can never be paired with another one's caption.
    """
    key = hashlib.sha256(f"{VERSION} {client.digest} {base.digest} {base.dtype}".encode()).hexdigest()
    path = home.private(client.id) / f"encoded-{base.digest[:16]}-{key[:32]}.safetensors"
    cached = _cached(path)
    if cached is None:
        cached = {name: value.contiguous() for name, value in _encoded(client, base).items()}
        write_atomically(path, save(cached), private=True)
        for other in path.parent.glob(f"encoded-{base.digest[:16]}-*.safetensors"):
            if other != path:  # pictures that the client has no more
                other.unlink(missing_ok=True)
    everything = Examples(cached["mean"], cached["log_variance"], Conditioning(cached["tokens"], cached.get("pooled")))
    splits: dict[Split, list[int]] = {}
    for row in client.rows:
        splits.setdefault(row.split, []).append(row.index)
    return {split: everything.rows(torch.tensor(rows)) for split, rows in splits.items()}


def _cached(path: Path) -> dict[str, Tensor] | None:
    """What was encoded before; None where there is nothing that can be read."""
    try:
        found: dict[str, Tensor] = load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None
    return found


@torch.no_grad()
def _encoded(client: Client, base: BaseModel) -> dict[str, Tensor]:
    size = picture_size(base)
    means, log_variances = [], []
    for start in range(0, len(client.rows), 16):
        pixels = torch.stack([_pixels(row, size) for row in client.rows[start : start + 16]])
        mean, log_variance = posterior(base, pixels)
        means.append(mean)
        log_variances.append(log_variance)
    prompts = encode(base, [row.prompt for row in client.rows]).prompts
    pooled = {} if prompts.pooled is None else {"pooled": prompts.pooled}
    return {"mean": torch.cat(means), "log_variance": torch.cat(log_variances), "tokens": prompts.tokens, **pooled}


def _pixels(row: Row, size: int) -> Tensor:
    """One picture as (3, size, size) in [-1, 1]."""
    try:
        image = picture(row.image, size)
    except TableError as error:
        raise TableError(f"row {row.index}: {error}; remove the row or replace the picture") from None
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1).float() / 127.5 - 1
