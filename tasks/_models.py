"""Models as records name them, opened."""

from typing import TYPE_CHECKING

from data.home import Home
from data.records import Model

if TYPE_CHECKING:
    from fedcore.adapters import Layer


def load_model(model: Model) -> "dict[str, Layer] | None":
    """Σ weight · Δ of its parts as one adapter, exactly; None where there are none: the base.

    Raises:
        StoreError: a part is gone or damaged.
    """
    from fedcore import adapters

    store = Home.current().server()
    return adapters.summed([adapters.from_bytes(store.get(ref)) for _, ref in model], [w for w, _ in model]) if model else None
