"""What a federation's training needs of memory, told before it begins."""

from dataclasses import dataclass

from fedcore.config import Federation


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}" if size < 10 * 2**30 else f"{size / 2**30:.0f}"


@dataclass(frozen=True)
class Estimate:
    """Bytes: what each worker process `needs` for the model, `weights` of it for the base's, and what is `free` for each of them."""

    needs: int
    weights: int
    free: int

    def __str__(self) -> str:
        return f"about {_gib(self.needs)} GiB of memory for the model in each worker process, {_gib(self.weights)} of it weights"

    @property
    def advice(self) -> str | None:
        """What to do where that is too much; None: it fits."""
        if self.needs <= self.free:
            return None
        return (
            f"only {_gib(self.free)} GiB are free for it; lower training.batch, raise training.accumulate, or set "
            "training.checkpointing: true or precision: bf16"
        )


def estimate(federation: Federation, workers: int) -> Estimate:
    """For the largest rank, on this machine.

    Raises:
        BaseModelError: the base cannot be opened.
        InputError: there is no such device.
    """
    import psutil
    import torch

    from data.base.load import device_of, imagined
    from fedcore.memory import needs

    ranks = federation.adapter.rank
    rank = ranks if isinstance(ranks, int) else max(ranks.values())
    with imagined(federation.base, federation.precision, federation.device) as base:
        found = needs(base, rank, federation.adapter.target, federation.training.settings())
    on_gpu = device_of(federation.device).type == "cuda"
    free = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available // workers
    beside = federation.beside or federation.personal.method == "dual"  # whose own adapter trains beside the shared one
    return Estimate(found.total(beside), found.weights, free)
