"""Split inference (arXiv 2411.15781): the edge server takes the early steps, batched over users; each device finishes with its own model.

The server sees encoded prompts, or none: then it draws towards a prompt of its own, and the private one counts after the split only.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.home import Home
from data.records import RoundRecord
from data.store import insist_on_place, insist_on_png
from fedcore.course import Course
from fedcore.errors import InputError
from tasks._models import base_of, load_model
from tasks.generate import How, last_round, of_cluster, personal, write_png

if TYPE_CHECKING:
    from data.handover import Request
    from fedcore.base import BaseModel

SUFFIX = ".latents.safetensors"


def ask(home: Home, name: str, how: How, *, prompt: str, private: bool, client: str | None, out: Path) -> int:
    """On the device: write a request for a picture; a `private` one holds nothing of the prompt. Returns its bytes.

    With a `client` it asks for the adapter of the cluster that this one is in.

    Raises:
        InputError: no such run, client or scheduler, or steps, guidance or a size that cannot be drawn with.
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
    insist_on_place(out)
    return write_request(out, base, Request(course, how.seed, None if private else encode(base, [prompt]).prompts, cluster))


@dataclass(frozen=True)
class Begun:
    """A file for a device, and its bytes; None where nothing was written, since the picture's numbers grew beyond all bounds."""

    file: Path
    bytes: int | None


def begin(
    home: Home, name: str, requests: Sequence[Path], *, cluster: int | None, done: int, generic: str, out: Path, batch: int = 16,
    on_step: Callable[[int, int], None],
) -> list[Begun]:  # fmt: skip
    """On the server: take the first `done` steps of all requests, those of one cluster and course in one batch, with its adapter.

    The adapter is that of `cluster`, or of the one that each request names. Requests without a prompt are drawn towards `generic`.
    All are checked before anything is drawn.

    Raises:
        InputError: no such run or cluster, none at all, two requests of one name, more steps than a request has (all of them, if
            its prompt is applied afterwards), or more in `generic` than a prompt may hold.
        HandoverRefused: a request that cannot be used.
    """
    import torch

    from data.handover import MOST_GENERIC, Handover, write_handover
    from fedcore import sampling
    from fedcore.prompts import encode

    if len(generic) > MOST_GENERIC:
        raise InputError(f"--generic has {len(generic):,} characters; give at most {MOST_GENERIC:,}")
    record = last_round(home, name)
    if cluster is not None:
        of_cluster(record, cluster)
    base = base_of(home, name, record)
    torch.set_num_threads(1)
    together = _by_batch(record, base, requests, cluster, done)
    for path in requests:
        insist_on_place(_answer(out, path))
    batches = [(at, of[i : i + batch]) for at, of in together.items() for i in range(0, len(of), batch)]
    plans = {home_of: sampling.alone(load_model(of_cluster(record, home_of))) for home_of, _ in together}
    own, begun = encode(base, [generic]).prompts, list[Begun]()
    for number, ((home_of, course), of) in enumerate(batches):
        prompts = of[0][1].prompt or own
        for _, request in of[1:]:
            prompts = prompts.followed_by(request.prompt or own)

        def told(step: int, before: int = number * done) -> None:
            on_step(before + step, done * len(batches))

        state = sampling.begin(base, course, [request.seed for _, request in of])
        state = sampling.advance(base, course, state, prompts, plans[home_of], until=done, on_step=told)
        for i, (path, request) in enumerate(of):
            file = _answer(out, path)
            mine = Handover(
                course,
                request.seed,
                state.rows(slice(i, i + 1)),
                record.clusters[home_of].adapter.sha256,
                home_of,
                None if request.prompt else generic,
                len(of),
            )
            sound = bool(torch.isfinite(mine.state.latents).all())  # one user's odd request costs the others nothing
            begun.append(Begun(file, write_handover(file, base, mine) if sound else None))
    return begun


def _answer(out: Path, request: Path) -> Path:
    """The file for the device that asked."""
    return out / f"{request.stem}{SUFFIX}"


def _by_batch(
    record: RoundRecord, base: "BaseModel", requests: Sequence[Path], cluster: int | None, done: int
) -> "dict[tuple[int, Course], list[tuple[Path, Request]]]":
    """The requests by cluster and course, checked."""
    from data.handover import read_request
    from fedcore.sampling import length

    if len({path.stem for path in requests}) < len(requests):
        raise InputError("two requests have the same name; the files for the devices are named after them")
    together: dict[tuple[int, Course], list[tuple[Path, Request]]] = defaultdict(list)
    for path in requests:
        request = read_request(path, base)
        most = length(base, request.course) - (request.prompt is None)  # a prompt that stays private needs a step of its own
        if not 0 < done <= most:
            raise InputError(f"{path}: {done} steps cannot be done here; " + (f"give 1 to {most}" if most else "ask for more than one"))
        home_of = request.cluster if cluster is None else cluster
        if home_of is None:
            raise InputError(f"{path}: it names no cluster; give --cluster, or ask with --client")
        if home_of not in record.clusters:
            raise InputError(f"{path}: there is no cluster {home_of} in this run any more; give --cluster, or ask again")
        together[home_of, request.course].append((path, request))
    return together


def finish(
    home: Home, name: str, file: Path, *, client: str, prompt: str, keep: bool, out: Path, on_step: Callable[[int, int], None]
) -> None:
    """On the device: go on with the client's personal model and the prompt, and write the picture as PNG.

    Raises:
        InputError: no such run or client, `out` is no place for a PNG, or what was drawn cannot be shown.
        HandoverRefused: latents that cannot be used.
    """
    import torch

    from data.handover import read_handover
    from fedcore import sampling
    from fedcore.latents import decode
    from fedcore.prompts import encode

    record = last_round(home, name)
    model = personal(record, client)
    base = base_of(home, name, record)
    torch.set_num_threads(1)
    found = read_handover(file, base)
    insist_on_png(out)
    before, course = found.state.done, found.course
    steps = sampling.length(base, course)
    made = sampling.advance(
        base, course, found.state, encode(base, [prompt]).prompts, sampling.alone(load_model(model)),
        on_step=lambda step: on_step(step - before, steps - before),
    )  # fmt: skip
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
    sampling.insist_on_finite(made.latents)
    write_png(out, decode(base, made.latents), about, prompt if keep else None)
