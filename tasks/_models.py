"""Models as records name them, opened."""

import json
from typing import TYPE_CHECKING

from data.home import Home
from data.records import Model, RoundRecord, bound
from data.store import Ref, Store

if TYPE_CHECKING:
    from fedcore.adapters import Layer
    from fedcore.base import BaseModel
    from fedcore.interaction import Bank


def base_of(home: Home, name: str, record: RoundRecord) -> "BaseModel":
    """The base of a run, opened as the run has it; its weights must be those that the round was computed with.

    Raises:
        ConfigError: there is no run of this name.
        BaseModelError: it cannot be opened, or holds other weights by now.
    """
    from data.base.load import load_exact

    federation = bound(home.server(), name)
    return load_exact(federation.base, record.base, federation.precision, federation.device)


def load_model(model: Model) -> "dict[str, Layer] | None":
    """Σ weight · Δ of its parts as one adapter, exactly; None where there are none: the base.

    Raises:
        StoreError: a part is gone or damaged.
    """
    from fedcore import adapters

    parts = load_parts(model)
    return adapters.summed([adapter for _, adapter in parts], [weight for weight, _ in parts]) if parts else None


def load_parts(model: Model) -> "list[tuple[float, dict[str, Layer]]]":
    """Its parts, each with its weight.

    Raises:
        StoreError: a part is gone or damaged.
    """
    from fedcore import adapters

    store = Home.current().server()
    return [(weight, adapters.from_bytes(store.get(ref))) for weight, ref in model]


def load_bank(store: Store, clusters: dict[str, Ref], index: Ref) -> "Bank":
    """The global bank from its index and the adapters it names."""
    import torch

    from fedcore import adapters
    from fedcore.interaction import Bank

    about = json.loads(store.get(index))
    ids = sorted(int(i) for i in clusters)
    own = {i: adapters.from_bytes(store.get(clusters[str(i)])) for i in ids}
    return Bank(own, torch.tensor([about["centroids"][str(i)] for i in ids], dtype=torch.float64), about["temperature"])
