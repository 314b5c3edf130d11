"""What a federation is said to need, and what is advised where it is too much."""

from pathlib import Path
from typing import Any

import pytest

from data.base.load import imagined
from fedcore.config import Federation
from fedcore.injection import target_shapes
from tasks.estimate import Estimate, estimate
from tests.families import saved

GIB = 2**30


def test_advice_only_where_it_does_not_fit() -> None:
    fits, not_at_all = Estimate(3 * GIB // 2, GIB, 2 * GIB), Estimate(30 * GIB, 12 * GIB, 2 * GIB)
    assert str(fits) == "about 1.50 GiB of memory for the model in each worker process, 1.00 of it weights"
    assert fits.advice is None
    assert str(not_at_all).startswith("about 30 GiB")
    assert "only 2.00 GiB are free" in (not_at_all.advice or "")
    assert "training.batch" in (not_at_all.advice or "")


def test_the_largest_rank_and_the_federation_s_settings_count(tmp_path: Path) -> None:
    saved("sd15", tmp_path)

    def needs(**values: object) -> Estimate:
        return estimate(Federation(name="x", clients=("a",), base=str(tmp_path), **values), 2)  # type: ignore[arg-type]

    plain = needs(adapter={"rank": 16})
    assert needs(adapter={"rank": {"phone": 2, "laptop": 16}}).needs == plain.needs
    assert needs(adapter={"rank": 2}).needs < plain.needs
    assert needs(adapter={"rank": 16}, training={"batch": 1}).needs < plain.needs
    assert needs(adapter={"rank": 16}, precision="bf16").weights < plain.weights


@pytest.mark.parametrize(("settings", "beside"), [
    ({"aggregation": {"method": "svd_rest"}}, True),
    ({"interaction": {"method": "rest_of_the_world"}}, True),
    ({"personal": {"method": "dual"}}, True),
    ({"personal": {"method": "ditto"}}, False),
])  # fmt: skip
def test_what_stands_frozen_beside_a_client_s_adapter_is_counted(tmp_path: Path, settings: dict[str, Any], beside: bool) -> None:
    """A batch so large that training is what needs most."""
    saved("sd15", tmp_path)
    common = {"name": "x", "clients": ("a",), "base": str(tmp_path), "training": {"batch": 64}}
    plain, more = (estimate(Federation(**common, **of), 1).needs for of in ({}, settings))
    with imagined(str(tmp_path)) as base:
        copies = sum(base.denoiser.get_submodule(name).weight.nbytes for name in target_shapes(base, "attention"))
    assert more - plain == (copies if beside else 0)


def test_free_memory_is_divided_among_the_processes(tmp_path: Path) -> None:
    saved("sd15", tmp_path)
    one, four = (estimate(Federation(name="x", clients=("a",), base=str(tmp_path)), n).free for n in (1, 4))
    assert four == pytest.approx(one / 4, rel=0.2)
