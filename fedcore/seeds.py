"""Every random number comes from a generator derived from (seed, round, client, purpose); nobody touches a global one."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. `derive(0, "round", 2, "client", "c03", "noise")`.

    The names are hashed together with SHA-256, so neighbouring seeds share nothing, and the order of calls does not matter.
    """
    text = "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for one purpose; see `derive`."""
    return torch.Generator().manual_seed(derive(seed, *names))


@contextmanager
def isolated(seed: int, *names: str | int) -> Iterator[None]:
    """Inside, library code that insists on the global CPU generator draws from a derived one; afterwards the global state is as before."""
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(generator(seed, *names).get_state())
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
