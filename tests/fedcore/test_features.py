"""The feature network learns who drew a picture and what it shows, and gives the same features again."""

import torch

from fedcore.features import train_features
from tests.fedcore.test_judge import data


def darkened(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every other picture darker than it was, and which."""
    dark = torch.arange(len(pictures)) % 2
    return torch.where(dark.bool()[:, None, None, None], pictures // 3, pictures), dark


def test_pictures_alike_have_features_alike() -> None:
    pictures, hands = data(16)
    pictures, kinds = darkened(pictures)
    before = torch.get_rng_state()
    model = train_features(pictures, hands, kinds, steps=60, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    new, truth = data(16, "new")
    new, dark = darkened(new)
    found = model.of(new)
    assert found.shape == (32, 128)
    for head, labels in ((model.hand, truth), (model.subject, dark)):
        assert (head(found).argmax(dim=1) == labels).double().mean() > 0.8
    near = (
        torch.nn.functional.normalize(found - found.mean(dim=0), dim=1) @ torch.nn.functional.normalize(found - found.mean(dim=0), dim=1).T
    )
    same = truth[:, None] == truth[None]
    assert near[same].mean() > near[~same].mean()


def test_training_is_repeatable_and_depends_on_the_seed() -> None:
    pictures, hands = data(4)
    kinds = torch.arange(len(pictures)) % 2
    first, second, other = (train_features(pictures, hands, kinds, steps=2, seed=seed).hand.weight for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
