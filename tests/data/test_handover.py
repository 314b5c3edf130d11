"""Requests and latents on their way are read as they were written, and what was tampered with is refused by name and reason."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from data.handover import MOST_BYTES, Handover, Request, read_handover, read_request, write_handover, write_request
from fedcore.base import BaseModel
from fedcore.course import Course
from fedcore.errors import HandoverRefused
from fedcore.prompts import encode
from fedcore.sampling import advance, alone, begin
from fedcore.schedulers import names

COURSE = Course(steps=5, guidance=2.0)


def latents(base: BaseModel, scheduler: str | None = None, done: int = 3) -> Handover:
    course = replace(COURSE, scheduler=scheduler)
    state = advance(base, course, begin(base, course, [7]), encode(base, ["a cat"]).prompts, alone(None), until=done)
    return Handover(course, 7, state, "a" * 64, 2, batch=3)


@pytest.mark.parametrize("done", [1, 3, 5])
def test_latents_come_back_with_all_that_their_scheduler_remembers(base: BaseModel, tmp_path: Path, done: int) -> None:
    for name in (None, *names(base)):
        sent = latents(base, name, done)
        length = write_handover(tmp_path / "x.safetensors", base, sent)
        assert (tmp_path / "x.safetensors").stat().st_size == length
        got = read_handover(tmp_path / "x.safetensors", base)
        assert (got.course, got.seed, got.state.done, got.early, got.cluster, got.batch) == (sent.course, 7, done, "a" * 64, 2, 3)
        assert torch.equal(got.state.latents, sent.state.latents)
        assert got.state.memory.keys() == sent.state.memory.keys()
        assert all(torch.equal(got.state.memory[key], value) for key, value in sent.state.memory.items())


def test_a_request_holds_the_encoded_prompt_or_nothing_of_it(base: BaseModel, tmp_path: Path) -> None:
    prompt = encode(base, ["a cat"]).prompts
    write_request(tmp_path / "open", base, Request(COURSE, 3, prompt))
    write_request(tmp_path / "private", base, Request(COURSE, 3, None))
    write_request(tmp_path / "other", base, Request(COURSE, 3, None))
    found = read_request(tmp_path / "open", base)
    assert (found.course, found.seed) == (COURSE, 3)
    assert found.prompt is not None
    assert torch.equal(found.prompt.tokens, prompt.tokens)
    assert read_request(tmp_path / "private", base) == Request(COURSE, 3, None)
    assert (tmp_path / "private").read_bytes() == (tmp_path / "other").read_bytes()
    assert b"cat" not in (tmp_path / "open").read_bytes()


def opened(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["fedcore"])  # noqa: SIM118


def told(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Change the metadata."""

    def damage(path: Path) -> None:
        tensors, about = opened(path)
        change(about)
        save_file(tensors, path, metadata={"fedcore": json.dumps(about)})

    return damage


def valued(name: str, value: torch.Tensor) -> Callable[[Path], None]:
    """Change a value, the rest as it was."""

    def damage(path: Path) -> None:
        tensors, about = opened(path)
        save_file({**tensors, name: value}, path, metadata={"fedcore": json.dumps(about)})

    return damage


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not a safetensors file"),
        (lambda path: path.unlink(), "there is no such file"),
        (lambda path: save_file({"latents": torch.zeros(1)}, path), "metadata is missing"),
        (told(lambda about: about.update(format=2)), "metadata is missing, damaged or of another version"),
        (told(lambda about: about.update(early="../../x")), "metadata is missing, damaged"),
        (told(lambda about: about.update(batch=0)), "metadata is missing, damaged"),
        (told(lambda about: about.update(done=2)), "not those that it was written with"),
        (told(lambda about: about.update(kind="request")), "holds a request, not latents"),
        (told(lambda about: about.update(base="0" * 64)), "another base"),
        (told(lambda about: about["course"].update(steps=10**9)), "damaged"),
        (told(lambda about: about["course"].update(guidance=4.0)), "not those that it was written with"),
        (valued("latents", torch.zeros(1, 4, 8, 8)), "not those that it was written with"),
        (valued("more", torch.zeros(2)), "not those that it was written with"),
    ],
)
def test_what_was_tampered_with_is_refused(base: BaseModel, tmp_path: Path, damage: Callable[[Path], Any], reason: str) -> None:
    path = tmp_path / "x.safetensors"
    write_handover(path, base, latents(base))
    damage(path)
    with pytest.raises(HandoverRefused) as refused:
        read_handover(path, base)
    assert str(refused.value).startswith(f"{path}: ")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda x: replace(x, state=replace(x.state, latents=torch.zeros(1, 4, 16, 16))), "expected (1, 4, 8, 8)"),
        (lambda x: replace(x, state=replace(x.state, latents=torch.zeros(2, 4, 8, 8))), "expected (1, 4, 8, 8)"),
        (lambda x: replace(x, state=replace(x.state, latents=x.state.latents * float("nan"))), "not finite"),
        (lambda x: replace(x, state=replace(x.state, memory={"model_outputs.0": x.state.latents})), "expected nothing of this name"),
        (lambda x: replace(x, state=replace(x.state, latents=x.state.latents.long())), "'latents' is not what"),
        (lambda x: replace(x, state=replace(x.state, done=9)), "9 of 5 steps are done"),
        (lambda x: replace(x, state=replace(x.state, latents=x.state.latents.to(torch.int32))), "'latents' holds numbers of a kind"),
        (lambda x: replace(x, state=replace(x.state, latents=x.state.latents.cfloat())), "'latents' holds numbers of a kind"),
        (lambda x: replace(x, course=replace(x.course, scheduler="ancestral")), "there is no scheduler 'ancestral'"),
        (lambda x: replace(x, course=replace(x.course, scheduler="x\x1b[31m\nerror: y")), "its metadata is missing, damaged"),
        (lambda x: replace(x, course=replace(x.course, guidance=1e30)), "guidance is 1e+30; give a number from -100 to 100"),
        (lambda x: replace(x, early=""), "does not say whose adapter began it"),
        (lambda x: replace(x, cluster=None), "does not say whose adapter began it"),  # type: ignore[arg-type]
        (lambda x: replace(x, course=replace(x.course, size=17)), "pictures of 17 pixels cannot be drawn"),
    ],
)
def test_what_a_stranger_wrote_is_refused_where_it_does_not_fit(
    base: BaseModel, tmp_path: Path, wrong: Callable[[Handover], Handover], reason: str
) -> None:
    """With a digest that is right."""
    write_handover(tmp_path / "x", base, wrong(latents(base)))
    with pytest.raises(HandoverRefused) as refused:
        read_handover(tmp_path / "x", base)
    assert reason in str(refused.value)


def test_a_file_that_is_far_too_large_is_not_read(base: BaseModel, tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    for read in (read_request, read_handover):
        with pytest.raises(HandoverRefused, match="has 268,435,457 bytes, more than any"):
            read(tmp_path / "x", base)


def test_a_request_of_the_wrong_shape_is_refused(base: BaseModel, tmp_path: Path) -> None:
    prompt = encode(base, ["a cat", "a dog"]).prompts
    write_request(tmp_path / "x", base, Request(COURSE, 3, prompt))
    with pytest.raises(HandoverRefused, match=r"'tokens' is of shape \(2, 32, 128\), expected \(1, 32, 128\)"):
        read_request(tmp_path / "x", base)


@pytest.mark.parametrize("step", [0, 10**9])
def test_a_scheduler_that_remembers_another_step_is_refused(base: BaseModel, tmp_path: Path, step: int) -> None:
    sent = latents(base, "unipc")
    memory = {**sent.state.memory, "_step_index": torch.tensor(step)}
    write_handover(tmp_path / "x", base, replace(sent, state=replace(sent.state, memory=memory)))
    with pytest.raises(HandoverRefused, match=r"'memory/_step_index' is not what 3 steps leave behind"):
        read_handover(tmp_path / "x", base)
