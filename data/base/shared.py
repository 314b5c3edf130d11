"""One copy of a base's weights for all processes of a machine: a file that each of them maps into its memory."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from data.store import write_atomically
from fedcore.errors import StoreError

ALIGNED = 64
"""Bytes: as torch aligns what it allocates, for kernels that are faster, or sum in another order, elsewhere."""


def share(modules: Sequence[nn.Module], file: Path) -> None:
    """Let the modules' frozen tensors be those of `file`, which is written if it is not there, or holds others.

    What the file holds is compared with what was loaded, bit for bit, before it counts. The mapping is private: whoever
    wrote to a weight would write to a copy of its page. Where the file cannot be written, everything stays as it is.
    """
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers()) if _dense(tensor)]
    with suppress(OSError, StoreError):
        if not _mapped(tensors, file):
            write_atomically(file, _pieces(tensors))
            _mapped(tensors, file)


def _dense(tensor: Tensor) -> bool:
    """Its elements lie one after the other, in whatever order."""
    return tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))


def _places(tensors: Sequence[Tensor]) -> tuple[list[int], int]:
    """Where each begins, and where the last one ends."""
    places, end = list[int](), 0
    for tensor in tensors:
        places.append(end)
        end += -(-tensor.nbytes // ALIGNED) * ALIGNED
    return places, end


def _flat(tensor: Tensor) -> Tensor:
    """Its bytes as they lie in memory."""
    return tensor.detach().as_strided((tensor.numel(),), (1,)).view(torch.uint8)


def _mapped(tensors: Sequence[Tensor], file: Path) -> bool:
    """Were they the file's, and are they now in it?"""
    places, end = _places(tensors)
    if not file.is_file() or file.stat().st_size != end:
        return False
    everything = torch.from_file(str(file), shared=False, size=end, dtype=torch.uint8)
    found = []
    for tensor, at in zip(tensors, places, strict=True):
        flat = everything[at : at + tensor.nbytes].view(tensor.dtype)
        there = flat.as_strided(tensor.shape, tensor.stride(), flat.storage_offset())
        if not torch.equal(_flat(there), _flat(tensor)):
            return False
        found.append(there)
    for tensor, there in zip(tensors, found, strict=True):
        tensor.data = there
    return True


def _pieces(tensors: Sequence[Tensor]) -> Iterator[bytes]:
    """The file's content."""
    for tensor in tensors:
        yield _flat(tensor).numpy().tobytes()
        yield bytes(-tensor.nbytes % ALIGNED)
