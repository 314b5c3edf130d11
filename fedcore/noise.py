"""How noise gets into latents while training, and what the model is asked to tell: diffusion (ε, v) or a straight flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler


class Process(Protocol):
    """Latents, noise and targets are (n, channels, h, w), timesteps (n,)."""

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Timesteps to train on."""

    def midpoints(self, strata: int) -> Tensor:
        """The middles of so many equal parts of the schedule, (strata,)."""

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy latents, and the target that the model predicts from them."""

    def weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Weights of the squared errors, (n,)."""


@dataclass(frozen=True)
class Diffusion:
    """`alphas` (timesteps,): how much of the signal's variance is left; the model predicts ε, or v (arXiv 2202.00512)."""

    alphas: Tensor
    predicts_noise: bool

    @classmethod
    def of(cls, scheduler: DDIMScheduler) -> Diffusion:
        """A scheduler's own schedule and prediction."""
        return cls(scheduler.alphas_cumprod, scheduler.config.prediction_type == "epsilon")

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """All alike."""
        return torch.randint(len(self.alphas), (n,), generator=generator)

    def midpoints(self, strata: int) -> Tensor:
        """Whole numbers."""
        return ((torch.arange(strata) + 0.5) / strata * len(self.alphas)).long()

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """`√ᾱ x + √(1−ᾱ) ε`; the target is ε or `√ᾱ ε − √(1−ᾱ) x`."""
        alphas = self.alphas[timesteps][:, None, None, None]
        noisy = alphas.sqrt() * clean + (1 - alphas).sqrt() * noise
        if self.predicts_noise:
            return noisy, noise
        return noisy, alphas.sqrt() * noise - (1 - alphas).sqrt() * clean

    def weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Min-SNR-γ (arXiv 2303.09556, section 3.4) for the model's own prediction; γ = 0 gives ones.

        ε: min(SNR, γ)/SNR; v: min(SNR, γ)/(SNR + 1), shifted to (min(SNR, γ) + 1)/(SNR + 1) where the schedule ends at SNR 0,
        whose weight would vanish otherwise.
        """
        alphas = self.alphas.double()
        if gamma == 0:
            return torch.ones_like(alphas[timesteps]).float()
        snr = alphas[timesteps] / (1 - alphas[timesteps])
        capped = snr.clamp(max=gamma)
        if self.predicts_noise:
            weights: Tensor = torch.where(snr > 0, capped / snr.clamp(min=1e-300), 1.0)
        else:
            shift = 1.0 if float(alphas[-1] / (1 - alphas[-1])) < 1e-6 else 0.0
            weights = (capped + shift) / (snr + 1)
        return weights.float()


@dataclass(frozen=True)
class Flow:
    """Rectified flow (arXiv 2403.03206): `x_t = (1 − σ) x + σ ε`, the model predicts `ε − x`; σ is the timestep over `length`.

    Timesteps to train on are logit-normal (equation 19 there), then moved towards noise by `shift` (section 5.3.2); so nothing
    is weighted, and γ has no meaning.
    """

    length: int
    shift: float

    @classmethod
    def of(cls, scheduler: FlowMatchEulerDiscreteScheduler) -> Flow:
        """A scheduler's own length and shift; one that shifts by the pictures' size does not while training."""
        return cls(scheduler.config.num_train_timesteps, 1.0 if scheduler.config.use_dynamic_shifting else scheduler.config.shift)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Real numbers between 0 and `length`."""
        u = torch.randn(n, generator=generator).sigmoid()
        return self.shift * u / (1 + (self.shift - 1) * u) * self.length

    def midpoints(self, strata: int) -> Tensor:
        """Real numbers."""
        return (torch.arange(strata) + 0.5) / strata * self.length

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """On the straight line from the picture to the noise."""
        sigma = (timesteps / self.length)[:, None, None, None]
        return (1 - sigma) * clean + sigma * noise, noise - clean

    def weights(self, timesteps: Tensor, gamma: float) -> Tensor:  # noqa: ARG002 the same for every process
        """All alike."""
        return torch.ones_like(timesteps)
