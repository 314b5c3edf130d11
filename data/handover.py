"""What travels between device and edge server when both draw a picture: a request, and latents on their way; checked before use.

A request holds no text: the encoded prompt, or not even that. Both files are safetensors; their metadata names the base, the
course, and a digest over all values.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from data.formats.tensors import serialised
from data.store import write_atomically
from fedcore.base import BaseModel as Base
from fedcore.base import Conditioning
from fedcore.course import MOST_PIXELS, MOST_STEPS, Course
from fedcore.errors import FedcoreError, HandoverRefused
from fedcore.prompts import nothing
from fedcore.sampling import State, begin, insist_on_course, length
from fedcore.schedulers import remembered_like

FORMAT: Literal[3] = 3
KEY = "fedcore"
MOST_GENERIC = 1000
"""Characters of what a server draws towards."""
MOST_BYTES = 2**28
"""Of a file: far more than any base's encoded prompt, or one picture's latents with all that a scheduler remembers."""


class _Course(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)]
    guidance: float
    scheduler: Annotated[str, Field(pattern=r"^[a-z0-9+-]{1,32}$")] | None
    size: Annotated[int, Field(ge=1, le=MOST_PIXELS)] | None


class _About(BaseModel):
    """The metadata; `done` steps, `seed` of the noise, `early` the adapter that took them, `cluster` whose it is, or is to be.

    `generic` is what the server drew towards instead of the prompt, `batch` how many pictures it drew at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[3]
    kind: Literal["request", "latents"]
    base: str
    course: _Course
    done: Annotated[int, Field(ge=0)]
    seed: int
    early: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    cluster: int | None
    generic: Annotated[str, Field(max_length=MOST_GENERIC)] | None
    batch: Annotated[int, Field(ge=1)]
    values: str


@dataclass(frozen=True)
class Request:
    """What a device asks for: noise from `seed`, a course, its encoded prompt (one row), or None to keep it to itself.

    `cluster`: the one whose adapter takes the early steps; None: the server knows.
    """

    course: Course
    seed: int
    prompt: Conditioning | None
    cluster: int | None = None


@dataclass(frozen=True)
class Handover:
    """A picture on its way (one row), with the course that it must go on with; `early` is the digest of the adapter so far.

    `cluster`: whose adapter that is. `generic`: what it was drawn towards, where that was not its own prompt. `batch`: how many
    pictures were drawn at once, on which the last bits depend.
    """

    course: Course
    seed: int
    state: State
    early: str
    cluster: int
    generic: str | None = None
    batch: int = 1


def write_request(path: Path, base: Base, request: Request) -> int:
    """Bytes written."""
    tensors: dict[str, Tensor] = {} if request.prompt is None else {"tokens": request.prompt.tokens}
    if request.prompt is not None and request.prompt.pooled is not None:
        tensors["pooled"] = request.prompt.pooled
    about = {"course": asdict(request.course), "done": 0, "seed": request.seed, "early": "", "cluster": request.cluster}
    return _write(path, "request", base, about, tensors or {"silent": torch.zeros(1)})


def read_request(path: Path, base: Base) -> Request:
    """A device's request.

    Raises:
        HandoverRefused: names the file, what is wrong with it, and what to do.
    """
    about, tensors = _read(path, "request", base)
    course = _course(path, about, base)
    if set(tensors) == {"silent"}:
        return Request(course, about.seed, None, about.cluster)
    known = nothing(base)
    want = {"tokens": known.tokens, **({} if known.pooled is None else {"pooled": known.pooled})}
    _insist_on_shapes(path, tensors, {name: tuple(value.shape) for name, value in want.items()})
    return Request(course, about.seed, Conditioning(tensors["tokens"], tensors.get("pooled")), about.cluster)


def write_handover(path: Path, base: Base, handover: Handover) -> int:
    """Bytes written."""
    tensors = {"latents": handover.state.latents, **{f"memory/{name}": value for name, value in handover.state.memory.items()}}
    of = handover
    about = {"course": asdict(of.course), "done": of.state.done, "seed": of.seed, "early": of.early, "cluster": of.cluster}
    about |= {"generic": of.generic, "batch": of.batch}
    return _write(path, "latents", base, about, tensors)


def read_handover(path: Path, base: Base) -> Handover:
    """Latents that an edge server began.

    Raises:
        HandoverRefused: names the file, what is wrong with it, and what to do.
    """
    about, tensors = _read(path, "latents", base)
    course = _course(path, about, base)
    if about.done > (steps := length(base, course)):
        raise HandoverRefused(f"says that {about.done} of {steps} steps are done; ask for the picture again", at=path)
    like = begin(base, course, [0]).latents
    memory = {f"memory/{n}": v for n, v in remembered_like(base, course.scheduler, course.steps, tuple(like.shape), about.done).items()}
    want = {"latents": like, **memory}
    _insist_on_shapes(path, tensors, {name: tuple(value.shape) for name, value in want.items()})
    for name, value in want.items():
        if tensors[name].dtype != value.dtype or (value.dtype == torch.int64 and not torch.equal(tensors[name], value)):
            raise HandoverRefused(f"{name[:60]!a} is not what {about.done} steps leave behind; ask for the picture again", at=path)
    found = {name.removeprefix("memory/"): value for name, value in tensors.items() if name != "latents"}
    if about.cluster is None or not about.early:
        raise HandoverRefused("does not say whose adapter began it; ask for the picture again", at=path)
    state = State(tensors["latents"], about.done, found)
    return Handover(course, about.seed, state, about.early, about.cluster, about.generic, about.batch)


def _write(path: Path, kind: str, base: Base, of: Mapping[str, object], tensors: Mapping[str, Tensor]) -> int:
    values = {name: value.detach().cpu().contiguous().clone() for name, value in sorted(tensors.items())}
    about = {"format": FORMAT, "kind": kind, "base": base.digest, "cluster": None, "generic": None, "batch": 1, **of}
    blob = serialised(values, {KEY: json.dumps(about | {"values": _digest(about, values)}, sort_keys=True)})
    write_atomically(path, blob)
    return len(blob)


def _digest(about: Mapping[str, object], values: Mapping[str, Tensor]) -> str:
    """Over everything but itself."""
    total = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(values.items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode() + value.numpy().tobytes())
    return total.hexdigest()


def _read(path: Path, kind: str, base: Base) -> tuple[_About, dict[str, Tensor]]:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise HandoverRefused(f"has {size:,} bytes, more than any {kind} here; ask for it again", at=path)
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY, "")
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 safetensors has no iterator
    except FileNotFoundError:
        raise HandoverRefused("there is no such file", at=path) from None
    except (SafetensorError, OSError, KeyError):
        raise HandoverRefused("not a safetensors file; ask for it again", at=path) from None
    try:
        about = _About.model_validate_json(text)
    except ValidationError:
        raise HandoverRefused("its metadata is missing, damaged or of another version; ask for it again", at=path) from None
    if about.kind != kind:
        raise HandoverRefused(f"holds {'a request' if about.kind == 'request' else 'latents'}, not {kind}; give the other file", at=path)
    if about.base != base.digest:
        raise HandoverRefused(
            f"made with another base ({about.base[:12]!a}) than the one here ({base.digest[:12]}); both sides must have the same", at=path
        )
    plain = {name: value for name, value in about.model_dump(mode="json").items() if name != "values"}
    if odd := sorted(name for name, value in values.items() if value.dtype not in (torch.float32, torch.float64, torch.int64)):
        raise HandoverRefused(f"{odd[0][:60]!a} holds numbers of a kind that none here are", at=path)
    if _digest(plain, values) != about.values:
        raise HandoverRefused("its values are not those that it was written with; ask for it again", at=path)
    if not all(bool(torch.isfinite(value).all()) for value in values.values()):
        raise HandoverRefused("holds values that are not finite", at=path)
    return about, values


def _course(path: Path, about: _About, base: Base) -> Course:
    course = Course(**about.course.model_dump())
    try:
        insist_on_course(base, course)
    except FedcoreError as error:
        raise HandoverRefused(error.message, at=path) from None
    return course


def _insist_on_shapes(path: Path, found: Mapping[str, Tensor], want: Mapping[str, tuple[int, ...]]) -> None:
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    for name in sorted(set(shapes) | set(want)):
        if shapes.get(name) != want.get(name):
            told = f"of shape {shapes[name]}" if name in shapes else "missing"
            raise HandoverRefused(f"{name[:60]!a} is {told}, expected {want.get(name, 'nothing of this name')}", at=path)
