"""Split inference (arXiv 2411.15781): the edge server takes the early steps, batched over users; each device finishes with its own model.

The server sees encoded prompts, or none: then it draws towards a prompt of its own, and the private one counts after the split only.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from data.home import Home
from data.records import RoundRecord
from data.store import insist_on_place, insist_on_png
from fedcore.course import Course
from fedcore.errors import FedcoreError, InputError, TooLarge
from tasks._models import base_of, load_model
from tasks.generate import How, last_round, of_cluster, personal, write_png

if TYPE_CHECKING:
    from data.handover import Handover, Request
    from fedcore.base import BaseModel, Conditioning
    from fedcore.composition import Parts
    from fedcore.sampling import State

    Batch = list[tuple[Path, Request]]

SUFFIX = ".latents.safetensors"


def ask(home: Home, name: str, how: How, *, prompt: str, private: bool, client: str | None, out: Path) -> int:
    """On the device: write a request for a picture; a `private` one holds nothing of the prompt. Returns its bytes.

    With a `client` it asks for the adapter of the cluster that this one is in.

    Raises:
        InputError: no such run, client or scheduler, or steps, guidance or a size that cannot be drawn with.
        BaseModelError: the base cannot be opened, or holds other weights by now.
    """
    from data.handover import Request, write_request
    from fedcore.prompts import encode
    from fedcore.sampling import insist_on_course

    record, cluster = last_round(home, name), None
    if client is not None:
        personal(record, client)
        cluster = record.clients[client].cluster
    base = base_of(home, name, record)
    course = Course(how.steps, how.guidance, how.scheduler, how.size)
    insist_on_course(base, course)
    _insist_on_share(base, course)
    insist_on_place(out)
    return write_request(out, base, Request(course, how.seed, None if private else encode(base, [prompt]).prompts, cluster))


@dataclass(frozen=True)
class Begun:
    """What became of a request: the `file` for the device and its bytes; or, where nothing was written, why."""

    request: Path
    file: Path
    bytes: int = 0
    refused: str | None = None


def begin(
    home: Home, name: str, requests: Sequence[Path], *, cluster: int | None, done: int, generic: str, out: Path, batch: int = 16,
    on_step: Callable[[int, int], None],
) -> list[Begun]:  # fmt: skip
    """On the server: take the first `done` steps of all requests, those of one cluster and course in one batch, with its adapter.

    The adapter is that of `cluster`, or of the one that each request names. Requests without a prompt are drawn towards `generic`.
    One that cannot be used is refused by name and reason, and costs the others nothing; batches are smaller where memory is short.

    Raises:
        InputError: no such run or cluster, two requests of one name, `out` is no place for a file, or `generic` holds more than a
            prompt may.
        BaseModelError: the base cannot be opened, or holds other weights by now.
    """
    import torch

    from data.handover import MOST_GENERIC, Handover
    from fedcore import sampling
    from fedcore.prompts import encode

    if len(generic) > MOST_GENERIC:
        raise InputError(f"--generic has {len(generic):,} characters; give at most {MOST_GENERIC:,}")
    if len({path.stem for path in requests}) < len(requests):
        raise InputError("two requests have the same name; the files for the devices are named after them")
    record = last_round(home, name)
    if cluster is not None:
        of_cluster(record, cluster)
    base = base_of(home, name, record)
    torch.set_num_threads(1)
    answers = {path: Begun(path, out / f"{path.stem}{SUFFIX}") for path in requests}
    for answer in answers.values():
        insist_on_place(answer.file)
    together: dict[tuple[int, Course], Batch] = defaultdict(list)
    for path in requests:
        try:
            request, home_of = _checked(record, base, path, cluster, done)
            together[home_of, request.course].append((path, request))
        except FedcoreError as error:
            answers[path] = replace(answers[path], refused=error.message)
    plans = {home_of: sampling.alone(load_model(of_cluster(record, home_of))) for home_of, _ in together}
    own = encode(base, [generic]).prompts
    batches = [(at, part) for at, of in together.items() for part in _parts(base, at[1], of, batch)]
    for (home_of, _), of, drawn in _early(base, batches, plans, own, done, on_step):
        for i, (path, request) in enumerate(of):
            if isinstance(drawn, TooLarge):
                answers[path] = replace(answers[path], refused=drawn.message)
                continue
            towards, adapter = None if request.prompt else generic, record.clusters[home_of].adapter.sha256
            mine = Handover(request.course, request.seed, drawn.rows(slice(i, i + 1)), adapter, home_of, towards, len(of))
            answers[path] = _answered(answers[path], base, mine)
    return list(answers.values())


def _parts(base: "BaseModel", course: Course, of: "Batch", most: int) -> "list[Batch]":
    """Requests that are drawn together, `most` at once; on a CPU large pictures gain nothing from that, and need its memory."""
    from fedcore.latents import at_most

    n = at_most(most, base.family.shape(base, course.size)) if base.device.type == "cpu" else most
    return [of[i : i + n] for i in range(0, len(of), n)]


def _early(
    base: "BaseModel",
    batches: "Sequence[tuple[tuple[int, Course], Batch]]",
    plans: "Mapping[int, Callable[[int], Parts]]",
    own: "Conditioning",
    done: int,
    on_step: Callable[[int, int], None],
) -> "Iterator[tuple[tuple[int, Course], Batch, State | TooLarge]]":
    """Every batch with its first steps taken; one that memory does not suffice for in halves, down to the requests that are too large."""
    from fedcore import sampling
    from fedcore.training import enough_memory

    waiting, drawn = deque(batches), 0
    while waiting:
        at, of = waiting.popleft()
        home_of, course = at

        def told(step: int, before: int = drawn * done, total: int = (drawn + 1 + len(waiting)) * done) -> None:
            on_step(before + step, total)

        try:
            with enough_memory():
                prompts = of[0][1].prompt or own
                for _, request in of[1:]:
                    prompts = prompts.followed_by(request.prompt or own)
                state = sampling.begin(base, course, [request.seed for _, request in of])
                made = sampling.advance(base, course, state, prompts, plans[home_of], until=done, on_step=told)
        except TooLarge as error:
            if len(of) > 1:
                half = len(of) // 2
                waiting.extendleft([(at, of[half:]), (at, of[:half])])
            else:
                yield at, of, error
            continue
        drawn += 1
        yield at, of, made


def _answered(answer: Begun, base: "BaseModel", mine: "Handover") -> Begun:
    """The device's file, written; none where its numbers grew beyond all bounds."""
    from torch import isfinite

    from data.handover import write_handover

    if not bool(isfinite(mine.state.latents).all()):
        return replace(answer, refused="the picture grew beyond all numbers")
    return replace(answer, bytes=write_handover(answer.file, base, mine))


LARGEST = 2
"""Pictures for others have at most so many times the sides of those that the base was made for: the work grows with the fourth power."""


def _insist_on_share(base: "BaseModel", course: Course) -> None:
    """Refuse a picture that would take what is everybody's."""
    from fedcore.latents import picture_size

    most = LARGEST * picture_size(base)
    if course.size is not None and course.size > most:
        raise InputError(f"pictures of {course.size} pixels are not drawn for others; ask for at most {most}")


def _checked(record: RoundRecord, base: "BaseModel", path: Path, cluster: int | None, done: int) -> "tuple[Request, int]":
    """A request, and the cluster whose adapter it is drawn with."""
    from data.handover import read_request
    from fedcore.sampling import length

    request = read_request(path, base)
    _insist_on_share(base, request.course)
    most = length(base, request.course) - (request.prompt is None)  # a prompt that stays private needs a step of its own
    if not 0 < done <= most:
        raise InputError(f"{done} steps cannot be done here; " + (f"give 1 to {most}" if most else "ask for more than one"))
    home_of = request.cluster if cluster is None else cluster
    if home_of is None:
        raise InputError("it names no cluster; give --cluster, or ask with --client")
    if home_of not in record.clusters:
        raise InputError(f"there is no cluster {home_of} in this run any more; give --cluster, or ask again")
    return request, home_of


def finish(
    home: Home, name: str, file: Path, *, client: str, prompt: str, keep: bool, out: Path, on_step: Callable[[int, int], None]
) -> None:
    """On the device: go on with the client's personal model and the prompt, and write the picture as PNG.

    Raises:
        InputError: no such run or client, `out` is no place for a PNG, or what was drawn cannot be shown.
        BaseModelError: the base cannot be opened, or holds other weights by now.
        HandoverRefused: latents that cannot be used.
        TooLarge: memory does not suffice.
    """
    import torch

    from data.handover import read_handover
    from fedcore import sampling
    from fedcore.latents import decode
    from fedcore.prompts import encode
    from fedcore.training import enough_memory

    record = last_round(home, name)
    model = personal(record, client)
    base = base_of(home, name, record)
    torch.set_num_threads(1)
    found = read_handover(file, base)
    insist_on_png(out)
    before, course = found.state.done, found.course
    steps = sampling.length(base, course)
    with enough_memory():
        made = sampling.advance(
            base, course, found.state, encode(base, [prompt]).prompts, sampling.alone(load_model(model)),
            on_step=lambda step: on_step(step - before, steps - before),
        )  # fmt: skip
        sampling.insist_on_finite(made.latents)
        picture = decode(base, made.latents)
    about = {
        "run": name,
        "round": record.round,
        "base": record.base,
        **asdict(course),
        "seed": found.seed,
        "split": before,
        "early": found.early,
        "cluster": found.cluster,
        "generic": found.generic,
        "batch": found.batch,
    }
    about |= {"styles": [{"weight": 1.0, "style": client, "adapters": [(share, ref.sha256) for share, ref in model]}]}
    write_png(out, picture, about, prompt if keep else None)
