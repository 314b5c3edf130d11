"""A small classifier of drawing styles, trained on the pack: it says which artist's hand a generated picture looks like."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedcore.seeds import derive, generator, isolated


class Judge(nn.Module):
    """Four strided convolutions and a linear layer over mean features: 64×64 RGB in [-1, 1] to style logits."""

    def __init__(self, styles: Sequence[str]) -> None:
        super().__init__()
        self.styles = tuple(styles)
        widths = (3, 24, 48, 64, 96)
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(8, o) for o in widths[1:])
        self.head = nn.Linear(2 * widths[-1], len(styles))

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, 3, 64, 64) → (n, styles)."""
        x = pictures
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.silu(norm(convolution(x)))
        features = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        out: Tensor = self.head(features)
        return out

    @torch.no_grad()
    def name(self, pictures: Tensor) -> list[str]:
        """The most likely style of each uint8 picture (n, 3, 64, 64)."""
        logits = self(pictures.float() / 127.5 - 1)
        return [self.styles[int(i)] for i in logits.argmax(dim=1)]


def train_judge(pictures: Tensor, labels: Tensor, styles: Sequence[str], *, steps: int, seed: int) -> Judge:
    """Cross-entropy on uint8 `pictures` (n, 3, 64, 64), every style equally often, mirrored and moved a little."""
    with isolated(seed, "judge"):
        model = Judge(styles)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    of_style = [torch.nonzero(labels == s).flatten() for s in range(len(styles))]
    for step in range(steps):
        draw = generator(derive(seed, "judge"), "step", step)
        rows = torch.cat([own[torch.randint(len(own), (8,), generator=draw)] for own in of_style])
        batch = pictures[rows].float() / 127.5 - 1
        shift = [int(s) for s in torch.randint(-3, 4, (2,), generator=draw)]
        batch = torch.roll(batch, shift, dims=(2, 3))
        if torch.rand((), generator=draw) < 0.5:
            batch = batch.flip(3)
        loss = F.cross_entropy(model(batch), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return model.eval()
