"""One picture by an edge server and a device, on a finished run: what each side draws is what it is said to draw."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from data.base.load import load_base
from data.handover import read_request, write_request
from data.home import HOME, Home
from data.records import RoundRecord, rounds
from fedcore import sampling
from fedcore.base import BaseModel, Conditioning
from fedcore.course import Course
from fedcore.errors import InputError, TooLarge
from fedcore.latents import decode
from fedcore.prompts import encode
from tasks._models import load_model
from tasks.generate import How
from tasks.split import ask, begin, finish
from tests.e2e.conftest import CANARY, Ran, World

PROMPTS = {"c01": f"a cat {CANARY}", "c02": f"a house {CANARY}"}
HOW = How(steps=5, guidance=2.0)


@pytest.fixture
def home(ran: Ran, world: World, monkeypatch: pytest.MonkeyPatch) -> Home:
    assert ran.code == 0
    monkeypatch.setenv(HOME, str(world.home))
    return Home.current()


def silent(_done: int, _of: int) -> None:
    """No bar."""


def asked(home: Home, folder: Path, *, private: bool) -> list[Path]:
    """The requests of both clients."""
    files = [folder / f"{client}.request" for client in PROMPTS]
    for seed, (file, prompt) in enumerate(zip(files, PROMPTS.values(), strict=True)):
        ask(home, "demo", How(seed=seed, steps=HOW.steps, guidance=HOW.guidance), prompt=prompt, private=private, client=None, out=file)
    return files


def expected(record: RoundRecord, base_folder: Path, done: int, generic: str | None) -> torch.Tensor:
    """Both pictures: the early steps together with cluster 0's adapter, the others each with its own model."""
    base, course = load_base(str(base_folder)), Course(HOW.steps, HOW.guidance)
    own = encode(base, list(PROMPTS.values())).prompts
    towards = own if generic is None else encode(base, [generic]).prompts.times(2)
    early = sampling.alone(load_model(((1.0, record.clusters[0].adapter),)))
    state = sampling.advance(base, course, sampling.begin(base, course, [0, 1]), towards, early, until=done)
    made = [
        sampling.advance(
            base, course, state.rows(slice(i, i + 1)), own.rows(slice(i, i + 1)), sampling.alone(load_model(record.model_of(client)))
        ).latents
        for i, client in enumerate(PROMPTS)
    ]
    return torch.cat([decode(base, each) for each in made])


@pytest.mark.parametrize(("private", "generic"), [(False, None), (True, "a flower")])
def test_the_server_begins_for_all_and_each_device_ends_with_its_own_model(
    home: Home, base_folder: Path, tmp_path: Path, private: bool, generic: str | None
) -> None:
    record = rounds(home.server(), "demo")[-1]
    requests = asked(home, tmp_path, private=private)
    begun = begin(home, "demo", requests, cluster=0, done=3, generic=generic or "", out=tmp_path / "out", on_step=silent)
    want = expected(record, base_folder, 3, generic)
    for i, (client, file) in enumerate(zip(PROMPTS, begun, strict=True)):
        out = tmp_path / f"{client}.png"
        finish(home, "demo", file.file, client=client, prompt=PROMPTS[client], keep=False, out=out, on_step=silent)
        with Image.open(out) as picture:
            about = json.loads(picture.info["fedcore"])
            assert np.array_equal(np.asarray(picture), want[i].permute(1, 2, 0).numpy())
        assert (about["split"], about["seed"], about["early"]) == (3, i, record.clusters[0].adapter.sha256)
        assert (about["cluster"], about["batch"]) == (0, 2)


def test_nothing_of_a_private_prompt_travels(home: Home, tmp_path: Path) -> None:
    for file in asked(home, tmp_path, private=True):
        with safe_open(file, "pt") as content:
            assert set(content.keys()) == {"silent"}
    (begun, _) = begin(home, "demo", asked(home, tmp_path, private=False), cluster=1, done=2, generic="", out=tmp_path, on_step=silent)
    assert CANARY.encode() not in begun.file.read_bytes()


def test_one_user_s_odd_request_costs_the_others_of_its_batch_nothing(home: Home, world: World, base_folder: Path, tmp_path: Path) -> None:
    one, other = asked(home, tmp_path, private=False)
    base = load_base(str(base_folder))
    both = begin(home, "demo", [one, other], cluster=0, done=2, generic="", out=tmp_path / "sound", on_step=silent)
    request = read_request(one, base)
    assert request.prompt is not None
    write_request(one, base, replace(request, prompt=Conditioning(request.prompt.tokens * 1e30, request.prompt.pooled)))
    bad, good = begin(home, "demo", [one, other], cluster=0, done=2, generic="", out=tmp_path / "odd", on_step=silent)
    assert bad.refused == "the picture grew beyond all numbers"
    assert not bad.file.exists()
    assert good.file.read_bytes() == both[1].file.read_bytes()
    told = world.command(
        "split", "begin", "demo", str(one), str(other), "--cluster", "0", "--steps-done", "2", "--out", str(tmp_path / "told")
    )
    assert told.code == 1
    assert re.search(r"left out .*c01\.request: the picture grew beyond all numbers\nwrote .*c02\.latents", told.output)


def test_requests_of_one_course_share_a_batch_and_others_do_not_disturb_them(home: Home, tmp_path: Path) -> None:
    one, other = asked(home, tmp_path, private=False)
    ask(home, "demo", How(seed=1, steps=4, guidance=2.0), prompt=PROMPTS["c02"], private=False, client=None, out=other)
    steps: list[tuple[int, int]] = []
    both = begin(home, "demo", [one, other], cluster=0, done=2, generic="", out=tmp_path / "both", on_step=lambda *at: steps.append(at))
    (alone,) = begin(home, "demo", [one], cluster=0, done=2, generic="", out=tmp_path / "alone", on_step=silent)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {b.file.name for b in both} == {"c01.latents.safetensors", "c02.latents.safetensors"}
    assert next(b for b in both if b.file.name == alone.file.name).file.read_bytes() == alone.file.read_bytes()


def test_what_cannot_be_begun_is_refused_before_anything_is_drawn(home: Home, tmp_path: Path) -> None:
    one, _ = asked(home, tmp_path, private=True)
    (tmp_path / "again").mkdir()
    twin = tmp_path / "again" / one.name
    twin.write_bytes(one.read_bytes())
    with pytest.raises(InputError, match="same name"):
        begin(home, "demo", [one, twin], cluster=0, done=2, generic="", out=tmp_path / "none", on_step=silent)
    with pytest.raises(InputError, match="--generic has 1,001 characters; give at most 1,000"):
        begin(home, "demo", [one], cluster=0, done=2, generic="x" * 1001, out=tmp_path / "none", on_step=silent)
    with pytest.raises(InputError, match="there is no cluster 9"):
        begin(home, "demo", [one], cluster=9, done=2, generic="", out=tmp_path / "none", on_step=silent)
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="there is no client 'c99'"):
        ask(home, "demo", HOW, prompt="a cat", private=True, client="c99", out=tmp_path / "none")
    with pytest.raises(InputError, match="pictures of 68 pixels are not drawn for others; ask for at most 32"):
        ask(home, "demo", replace(HOW, size=68), prompt="a cat", private=True, client="c01", out=tmp_path / "none")


def test_a_request_that_cannot_be_used_is_refused_by_name_and_costs_the_others_nothing(
    home: Home, base_folder: Path, tmp_path: Path
) -> None:
    one, other = asked(home, tmp_path, private=True)
    public, _ = asked(home, tmp_path / "public", private=False)
    base = load_base(str(base_folder))
    large = tmp_path / "large.request"
    write_request(large, base, replace(read_request(one, base), course=replace(read_request(one, base).course, size=68)))
    other.write_bytes(b"no request")

    def reason(request: Path, done: int, cluster: int | None = 0) -> str | None:
        out = tmp_path / f"{request.stem}-{done}"
        told, good = begin(
            home,
            "demo",
            [request, public.rename(tmp_path / "public.request")],
            cluster=cluster,
            done=done,
            generic="",
            out=out,
            on_step=silent,
        )
        assert not told.file.exists()
        good.request.rename(public)
        assert good.file.exists() == (cluster is not None)
        return told.refused

    assert reason(one, 5) == "5 steps cannot be done here; give 1 to 4"
    assert reason(other, 2) == "not a safetensors file; ask for it again"
    assert reason(large, 2) == "pictures of 68 pixels are not drawn for others; ask for at most 32"
    assert reason(one, 2, None) == "it names no cluster; give --cluster, or ask with --client"


def test_a_batch_that_memory_does_not_suffice_for_goes_in_halves(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's memory holds one picture here."""
    requests, tried, really = [*asked(home, tmp_path, private=True), tmp_path / "third.request"], list[int](), sampling.advance
    requests[2].write_bytes(requests[0].read_bytes())
    alone = [begin(home, "demo", [r], cluster=0, done=2, generic="", out=tmp_path / "alone", on_step=silent)[0] for r in requests]

    def small(base: BaseModel, course: Course, state: sampling.State, *rest: Any, **more: Any) -> sampling.State:
        tried.append(len(state.latents))
        if len(state.latents) > 1:
            raise torch.OutOfMemoryError
        return really(base, course, state, *rest, **more)

    monkeypatch.setattr(sampling, "advance", small)
    steps: list[tuple[int, int]] = []
    made = begin(home, "demo", requests, cluster=0, done=2, generic="", out=tmp_path / "all", on_step=lambda *at: steps.append(at))
    assert tried == [3, 1, 2, 1, 1]
    assert [answer.file.read_bytes() for answer in made] == [answer.file.read_bytes() for answer in alone]
    assert [done for done, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1] == (6, 6)


def test_a_device_whose_memory_does_not_suffice_is_told_so_and_writes_nothing(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (begun, _) = begin(home, "demo", asked(home, tmp_path, private=True), cluster=0, done=2, generic="", out=tmp_path, on_step=silent)

    def short(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("fedcore.latents.decode", short)
    with pytest.raises(TooLarge, match="the device's memory does not suffice"):
        finish(home, "demo", begun.file, client="c01", prompt="x", keep=False, out=tmp_path / "no.png", on_step=silent)
    assert not (tmp_path / "no.png").exists()


def test_only_what_is_too_large_alone_is_refused(home: Home, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention over so many places wants more memory than any machine has."""
    monkeypatch.setattr("tasks.split.LARGEST", 4096)
    monkeypatch.setattr("fedcore.latents.PLACES", 2**40)
    one, other = asked(home, tmp_path, private=True)
    base, huge = load_base(str(base_folder)), [tmp_path / "huge.request", tmp_path / "huger.request"]
    course = replace(read_request(one, base).course, size=2048)
    for file in huge:
        write_request(file, base, replace(read_request(one, base), course=course))
    made = begin(home, "demo", [huge[0], one, huge[1], other], cluster=0, done=1, generic="", out=tmp_path / "out", on_step=silent)
    assert [answer.file.exists() for answer in made] == [False, True, False, True]
    assert all("the device's memory does not suffice" in (made[i].refused or "") for i in (0, 2))


def test_requests_that_name_their_cluster_are_drawn_with_the_whole_bank(home: Home, tmp_path: Path) -> None:
    record = rounds(home.server(), "demo")[-1]
    clients = {record.clients[c].cluster: c for c in sorted(record.clients)}
    assert len(clients) == 2
    files = {cluster: tmp_path / f"{client}.request" for cluster, client in clients.items()}
    for cluster, file in files.items():
        ask(home, "demo", HOW, prompt="a cat", private=False, client=clients[cluster], out=file)
    both = begin(home, "demo", list(files.values()), cluster=None, done=2, generic="", out=tmp_path / "both", on_step=silent)
    for (cluster, file), begun in zip(files.items(), both, strict=True):
        (alone,) = begin(home, "demo", [file], cluster=cluster, done=2, generic="", out=tmp_path / "alone", on_step=silent)
        assert begun.file.read_bytes() == alone.file.read_bytes()
    assert len({begun.file.read_bytes() for begun in both}) == 2
