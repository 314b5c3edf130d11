"""Personal trainings: where they begin, and what they lean on."""

import pytest
import torch

from fedcore.adapters import Adapter, check
from fedcore.config import PersonalConfig
from fedcore.personal import SHARES, beginning, best_share, settings_of
from fedcore.training import Settings
from tests.tiny import dense, random_adapter

SHAPES = {"x.to_q": (5, 4), "x.to_k": (6, 3)}
SENT, SHARED, OWN, TAIL = (random_adapter(SHAPES, 2, who) for who in ("sent", "shared", "own", "tail"))
SETTINGS = Settings(steps=6, batch=4, lr=1e-2, min_snr=5.0, caption_dropout=0.0, clip_norm=1.0, weight_decay=0.0, prox=0.5)


def test_ditto_goes_on_with_the_own_adapter_and_is_pulled_to_what_was_sent() -> None:
    first = beginning(PersonalConfig(method="ditto"), SENT, SHARED, None, [TAIL], seed=0)
    assert (first.start, first.anchor) == (SENT, SENT)
    assert first.beside == TAIL
    later = beginning(PersonalConfig(method="ditto"), SENT, SHARED, OWN, [], seed=0)
    assert (later.start, later.anchor, later.beside) == (OWN, SENT, None)


def test_the_dual_adapter_begins_without_update_beside_the_shared_one() -> None:
    first = beginning(PersonalConfig(method="dual"), SENT, SHARED, None, [TAIL], seed=3)
    assert all(not layer.b.any() and layer.a.any() for layer in first.start.values())
    assert first.beside is not None
    for name in SHAPES:
        torch.testing.assert_close(dense(first.beside[name]), dense(SHARED[name]) + dense(TAIL[name]))
    assert first.anchor is None
    again: Adapter = beginning(PersonalConfig(method="dual"), SENT, SHARED, None, [TAIL], seed=3).start
    assert all(torch.equal(again[n].a, first.start[n].a) for n in SHAPES)
    assert beginning(PersonalConfig(method="dual"), SENT, SHARED, OWN, [], seed=3).start == OWN


@pytest.mark.parametrize("method", ["ditto", "dual"])
def test_who_changed_to_another_device_goes_on_with_its_own_adapter_at_its_new_rank(method: str) -> None:
    larger, smaller = random_adapter(SHAPES, 4, "sent"), random_adapter(SHAPES, 1, "sent")
    for sent in (larger, smaller):
        start = beginning(PersonalConfig(method=method), sent, sent, OWN, [], seed=0).start  # type: ignore[arg-type]
        check(start, sent)
        assert all(float(torch.sum(dense(start[n]) * dense(OWN[n]))) > 0.5 * float(torch.sum(dense(start[n]) ** 2)) > 0 for n in SHAPES)
    start = beginning(PersonalConfig(method=method), larger, larger, OWN, [], seed=0).start  # type: ignore[arg-type]
    for name in SHAPES:
        torch.testing.assert_close(dense(start[name]), dense(OWN[name]))


@pytest.mark.parametrize(("method", "prox"), [("ditto", 0.3), ("dual", 0.0)])
def test_the_settings_are_the_shared_ones_but_for_steps_and_pull(method: str, prox: float) -> None:
    made = settings_of(PersonalConfig(method=method, steps=9, prox=0.3), SETTINGS)  # type: ignore[arg-type]
    assert (made.steps, made.prox, made.lr, made.batch) == (9, prox, SETTINGS.lr, SETTINGS.batch)


def test_a_mixture_s_share_is_the_one_with_the_lowest_loss_and_half_without_measurements() -> None:
    parabola = {share: (share - 0.6) ** 2 for share in SHARES}
    assert best_share(parabola) == 0.5
    assert best_share(dict.fromkeys(SHARES, 1.0)) == 0.0
    assert best_share({}) == 0.5


def test_only_ditto_and_dual_train_something_of_the_client_s_own() -> None:
    assert [PersonalConfig(method=m).trains for m in ("last", "mixture", "ditto", "dual")] == [False, False, True, True]
