"""What two sets of pictures are compared by: features of a small network that learnt to tell hands and subjects apart."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedcore.pretraining.pictures import move
from fedcore.seeds import derive, generator, isolated

WIDTHS = (3, 32, 64, 128, 128)
OF_A_HAND = 8
"""Pictures of each hand in a batch."""


class Features(nn.Module):
    """Strided convolutions and their mean: 64×64 RGB in [-1, 1] to 128 features, read by two linear heads."""

    def __init__(self, hands: int, subjects: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 5 if i == 3 else 3, stride=2, padding=2 if i == 3 else 1) for i, o in pairwise(WIDTHS)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, o) for o in WIDTHS[1:])
        self.hand = nn.Linear(WIDTHS[-1], hands)
        self.subject = nn.Linear(WIDTHS[-1], subjects)

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, 3, 64, 64) → (n, 128)."""
        x = pictures
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.silu(norm(convolution(x)))
        return x.mean(dim=(2, 3))

    @torch.no_grad()
    def of(self, pictures: Tensor) -> Tensor:
        """Features of uint8 pictures (n, 3, 64, 64)."""
        return torch.cat([self(part.float() / 127.5 - 1) for part in pictures.split(64)])


def train_features(pictures: Tensor, hands: Tensor, subjects: Tensor, *, steps: int, seed: int) -> Features:
    """Cross-entropies of both heads on uint8 `pictures` (n, 3, 64, 64), every hand equally often, moved a little.

    `hands` and `subjects` (n,) number who drew a picture and what kind of thing it shows.
    """
    with isolated(seed, "features"):
        model = Features(int(hands.max()) + 1, int(subjects.max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    by_hand: Sequence[Tensor] = [torch.nonzero(hands == h).flatten() for h in range(int(hands.max()) + 1)]
    for step in range(steps):
        draw = generator(derive(seed, "features"), "step", step)
        rows = torch.cat([own[torch.randint(len(own), (OF_A_HAND,), generator=draw)] for own in by_hand])
        found = model(move(pictures[rows].float() / 127.5 - 1, draw, smallest=0.9))
        loss = F.cross_entropy(model.hand(found), hands[rows]) + F.cross_entropy(model.subject(found), subjects[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return model.eval()
