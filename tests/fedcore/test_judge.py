"""The style classifier learns what is easy to tell apart."""

import torch

from fedcore.judge import Judge, train_judge
from fedcore.seeds import generator, isolated


def stripes(n: int, across: bool, *names: str) -> torch.Tensor:
    """Pictures of noisy stripes, upright or lying, of any width and colour: uint8 (n, 3, 64, 64)."""
    draw = generator(0, "stripes", *names)
    width = torch.randint(3, 8, (n, 1), generator=draw)
    line = (torch.arange(64) // width) % 2 * torch.rand(n, 1, generator=draw).add(0.5)
    field = line[:, None, :].expand(n, 64, 64)
    colour = torch.rand(n, 3, 1, 1, generator=draw) * 0.5 + 0.5
    pictures = (field.mT if across else field)[:, None] * colour * 140 + 30 * torch.rand(n, 3, 64, 64, generator=draw)
    return pictures.clamp(0, 255).to(torch.uint8)


def data(n: int, *names: str) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([stripes(n, False, "up", *names), stripes(n, True, "lying", *names)]), torch.arange(2).repeat_interleave(n)


def test_two_obvious_styles_are_told_apart_on_new_pictures() -> None:
    pictures, labels = data(16)
    before = torch.get_rng_state()
    judge = train_judge(pictures, labels, ["upright", "lying"], steps=30, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    new, truth = data(10, "new")
    assert judge.name(new) == [("upright", "lying")[i] for i in truth.tolist()]
    assert not judge.training


def test_training_is_repeatable_and_depends_on_the_seed() -> None:
    first, second, other = (train_judge(*data(4), ["a", "b"], steps=2, seed=seed).head.weight for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_name_is_that_of_the_largest_logit() -> None:
    with isolated(0, "judge"):
        judge = Judge(["a", "b", "c"])
    with torch.no_grad():
        judge.head.weight.zero_()
        judge.head.bias.copy_(torch.tensor([0.0, 2.0, 1.0]))
    assert judge(torch.zeros(2, 3, 64, 64)).tolist() == [[0.0, 2.0, 1.0]] * 2
    assert judge.name(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)) == ["b", "b"]
