"""Every method on the same harder federation, with the same budget: ordinary federations, one a cell, resumable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import yaml

from data.base.folder import base_folder, digest
from data.clients import remember_clients, serve
from data.emoji.benchmark import POOL, WRONG, write_clients, write_pool
from data.federations import client_folder, read_federation
from data.home import Home
from data.records import RoundRecord, bind, bound, rounds
from data.store import write_atomically
from fedcore.config import Federation
from fedcore.errors import InputError
from flows.benchmarks.cells import key_of
from flows.training import federated_training
from tasks._dispatch import warm

FILE = Path("federations/benchmark.yaml")
FEDAVG = (
    "adapter.rank=8", "adapter.transport=fp32", "aggregation.method=fedavg", "clustering.method=k-means", "clustering.on=requirements",
    "clustering.warmup=0", "interaction.method=none", "personal.method=last",
)  # fmt: skip
"""Every choice of method is named here, so that a cell means the same whatever the defaults are."""
CLUSTERS = (*FEDAVG, "clustering.on=both", "clustering.warmup=2", "aggregation.method=svd")
MIXTURE = (*CLUSTERS, "personal.method=mixture")
"""Every other choice is measured by changing one thing of it. `pipeline` are the defaults."""
FACTORS = (*MIXTURE, "aggregation.method=fedavg")
"""Server optimisers work on averaged factors."""
MIXED = "adapter.rank={phone: 4, laptop: 8, workstation: 16}"
SLOW = ("training.lr=2.5e-3",)
"""The rate that suits one global adapter best, of 1e-3, 2.5e-3 and 4e-3 by its tuning loss; at the file's it overfits sooner."""


@dataclass(frozen=True)
class Method:
    """A cell of the benchmark: what is set differently from the federation's file, and the question that it belongs to.

    `wrong` is the share of clients that ask for another style than they draw in.
    """

    name: str
    question: str
    settings: tuple[str, ...]
    wrong: float = WRONG


def _asked(question: str, of: Mapping[str, Sequence[str]]) -> dict[str, Method]:
    return {name: Method(name, question, tuple(settings)) for name, settings in of.items()}


METHODS: dict[str, Method] = {
    **_asked(
        "baselines",
        {
            "local_slow": (*FEDAVG, "clustering.method=alone", "training.lr=1e-3"),
            "fedavg": (*FEDAVG, "clustering.k=1", *SLOW),
            "one_svd": (*CLUSTERS, "clustering.k=1"),
        },
    ),
    **_asked(
        "further baselines",
        {
            "fedavg_mixture": (*FEDAVG, "clustering.k=1", *SLOW, "personal.method=mixture"),
            "local": (*FEDAVG, "clustering.method=alone"),
            "local_slower": (*FEDAVG, "clustering.method=alone", "training.lr=5e-4"),
            "fedavg_fast": (*FEDAVG, "clustering.k=1"),
            "fedavg_slow": (*FEDAVG, "clustering.k=1", "training.lr=1e-3"),
        },
    ),
    **_asked(
        "the pipeline",
        {"pipeline": (*MIXTURE, "interaction.method=similarity", "interaction.own=0.9", "clustering.warmup=1", "adapter.transport=fp16")},
    ),
    **_asked(
        "who learns together",
        {
            "one_round": (*MIXTURE, "clustering.warmup=1"),
            "wishes": (*MIXTURE, "clustering.on=requirements"),
            "adapters": (*MIXTURE, "clustering.on=adapters"),
            "at_once": (*MIXTURE, "clustering.warmup=0"),
            "agglomerative": (*MIXTURE, "clustering.method=agglomerative"),
            "hdbscan": (*MIXTURE, "clustering.method=hdbscan"),
            "ifca": (*MIXTURE, "clustering.method=ifca", "clustering.k=6", "clustering.warmup=0", "evaluation.others=true"),
            "soft": (*MIXTURE, "clustering.soft=0.2"),
        },
    ),
    **_asked(
        "aggregation",
        {rule: (*MIXTURE, f"aggregation.method={rule}") for rule in ("svd_rest", "stack", "fedex", "hetlora", "ffa", "rolora", "lora_fair")}
        | {
            "factors": FACTORS,
            "fedsa": (*MIXTURE, "aggregation.method=fedsa", "personal.method=last", "clustering.on=requirements"),
            "uniform": (*MIXTURE, "aggregation.weights=uniform"),
        },
    ),
    **_asked(
        "mixed ranks",
        {
            f"mixed_{rule}": (*MIXTURE, f"aggregation.method={rule}", MIXED)
            for rule in ("svd", "svd_rest", "svd_rank_aware", "stack", "hetlora")
        },
    ),
    **_asked(
        "server optimiser",
        {
            "momentum": (*FACTORS, "aggregation.server.method=momentum", "aggregation.server.beta1=0.5"),
            "adam": (*FACTORS, "aggregation.server.method=adam", "aggregation.server.lr=0.005"),
            "yogi": (*FACTORS, "aggregation.server.method=yogi", "aggregation.server.lr=0.005"),
        },
    ),
    **_asked(
        "what clusters learn from each other",
        {
            "similarity": (*MIXTURE, "interaction.method=similarity", "interaction.own=0.9"),
            "attention": (*MIXTURE, "interaction.method=attention", "interaction.own=0.9"),
            "rest_of_the_world": (*MIXTURE, "interaction.method=rest_of_the_world", "interaction.own=0.8"),
            "annealed": (
                *MIXTURE,
                "interaction.method=similarity",
                "interaction.own=0.5",
                "interaction.own_last=1.0",
                "interaction.over=6",
            ),
        },
    ),
    **_asked(
        "what a client keeps for itself",
        {
            "mixture": MIXTURE,
            "last": CLUSTERS,
            "prox": (*MIXTURE, "training.prox=0.01"),
            "ditto": (*CLUSTERS, "training.steps=5", "personal.method=ditto", "personal.steps=5"),
            "dual": (*CLUSTERS, "training.steps=5", "personal.method=dual", "personal.steps=5"),
            "falling": (*MIXTURE, "training.lr=5e-3", "training.lr_last=1e-3", "training.over=8"),
        },
    ),
    **_asked(
        "who takes part",
        {
            "half": (*MIXTURE, "participation.share=0.5"),
            "stragglers": (*MIXTURE, "participation.stragglers=0.5"),
            "by_day": (*MIXTURE, "participation.available=0.6", "participation.period=4"),
        },
    ),
}
CENTRAL = Method("centralised", "baselines", (*FEDAVG, "training.lr=1e-3", "clustering.method=alone"))
"""Not federated: the bound that needs everybody's pictures in one place; clients train on for a round afterwards, as everywhere.

That round's rate did better than 2.5e-3 on the tuning pictures; lower ones were not tried.
"""

POOLED_BATCH, POOLED_LR = 32, 2.5e-4
"""How one training on all pictures does best: batches in which all styles are, at the best rate of 1e-4, 2.5e-4, 1e-3 and 2.5e-3."""

ABLATION = {
    "local training only": "local_slow",
    "one adapter, averaged factors": "fedavg",
    "one adapter, exact mean": "one_svd",
    "+ clusters": "last",
    "+ personal mixture": "mixture",
    "+ interaction": "similarity",
    "the defaults (half precision, short warm-up)": "pipeline",
}
"""The pipeline built up part by part from what it replaces, and the methods that stand for its steps; `fedavg` and local
training at their best rates, all others at the file's."""


def _changed(name: str, *settings: str, wrong: float = WRONG) -> Method:
    return Method(name, "what it depends on", (*MIXTURE, *settings), wrong)


def _steps(steps: int) -> Method:
    return _changed(f"steps-{steps}", f"training.steps={steps}", f"rounds={80 // steps}", f"clustering.warmup={20 // steps}")


SENSITIVITY: dict[str, dict[str, Method]] = {
    "number of clusters": {k: _changed(f"k-{k}", f"clustering.k={k}") for k in ("2", "4", "8", "12")} | {"auto": METHODS["mixture"]},
    "own share λ": {own: _changed(f"own-{own}", "interaction.method=similarity", f"interaction.own={own}") for own in ("0.5", "0.7")}
    | {"0.9": METHODS["similarity"], "1": METHODS["mixture"]},
    "rank": {"4": _changed("rank-4", "adapter.rank=4"), "8": METHODS["mixture"], "16": _changed("rank-16", "adapter.rank=16")},
    "local steps (equal pictures)": {"5": _steps(5), "10": METHODS["mixture"], "20": _steps(20)},
    "share of wrong statements": {"0": _changed("wrong-0", wrong=0.0), str(WRONG): METHODS["mixture"]}
    | {str(share): _changed(f"wrong-{share}", wrong=share) for share in (0.3, 0.5)},
}
"""One thing changed at a time."""


def settings_table(methods: Mapping[str, Method]) -> str:
    """What every method sets beside `mixture`, from which most differ by one thing."""
    common = dict(s.split("=", 1) for s in MIXTURE)
    lines = [
        "### What the names stand for",
        "",
        f"`mixture` is {', '.join(f'`{k}={v}`' for k, v in common.items())}; the others set beside it:",
        "",
    ]
    lines += ["| method | `--set` |", "|---|---|"]
    for name, method in methods.items():
        settings = dict(s.split("=", 1) for s in method.settings)  # the last one counts
        others = [f"{key}={value}" for key, value in settings.items() if common.get(key) != value]
        lines.append(f"| `{name}` | {', '.join(f'`{s}`' for s in others) or '–'} |")
    return "\n".join(lines) + "\n"


def run_name(method: Method, seed: int, key: str) -> str:
    """The run of a cell, of which nothing is taken that was computed from something else."""
    return f"bench-{seed}-{method.name}-{key[:8]}".replace("_", "-").replace(".", "")


@lru_cache
def prepare(home: Home, seed: int, wrong: float = WRONG) -> Path:
    """The federation file of a seed with its clients' files beside it, on the clients' side of the state folder; written once a process.

    Raises:
        InputError: this is not the folder that the benchmark is run in.
    """
    if not FILE.exists():
        raise InputError(f"{FILE}: there is no such file; the benchmark is run in the project's own folder")
    folder = home.private("_benchmark") / (f"seed-{seed}" if wrong == WRONG else f"seed-{seed}-wrong-{wrong}")
    file = folder / "benchmark.yaml"
    write_pool(client_folder(file), write_clients(client_folder(file), seed, wrong=wrong))
    values = {**yaml.safe_load(FILE.read_text(encoding="utf-8")), "seed": seed}
    write_atomically(file, yaml.safe_dump(values).encode())
    return file


def cell_key(home: Home, method: Method, seed: int) -> str:
    """Names what a cell is computed from."""
    file = prepare(home, seed, method.wrong)
    of = [read_federation(file, settings, "cell") for settings in _one_after_the_other(method, file)]
    first, *others = (key_of(federation, client_folder(file), digest(base_folder(federation.base))) for federation in of)
    return sha256("".join((first, *others)).encode()).hexdigest()[:32] if others else first


def run_cell(home: Home, method: Method, seed: int) -> list[RoundRecord]:
    """Compute what is missing of a cell; its rounds."""
    file, name = prepare(home, seed, method.wrong), run_name(method, seed, cell_key(home, method, seed))
    *before, settings = _one_after_the_other(method, file)
    if before:
        pooled = read_federation(file, before[0], f"{name}-pooled")
        _finish(home, pooled, file)
        settings = [*settings, f"begin.run={pooled.name}"]
    return _finish(home, read_federation(file, settings, name), file)


def _one_after_the_other(method: Method, file: Path) -> list[Sequence[str]]:
    """The settings of the federations that a cell is made of: one, but for the centralised bound."""
    if method != CENTRAL:
        return [method.settings]
    federated = read_federation(file, method.settings, "cell")
    return [[*method.settings, *_pooled(federated)], [*method.settings, "rounds=1"]]


def _pooled(federation: Federation) -> list[str]:
    """One client with all pictures that trains on as many of them as all clients do until their last round."""
    steps = federation.training.steps * len(federation.clients) * federation.training.batch // POOLED_BATCH
    budget = [f"clients=[{POOL}]", f"rounds={federation.rounds - 1}", f"training.steps={steps}", f"training.batch={POOLED_BATCH}"]
    return [*budget, f"training.lr={POOLED_LR}", "client_timeout=3600"]


def _finish(home: Home, federation: Federation, file: Path) -> list[RoundRecord]:
    bind(home.server(), federation)
    remember_clients(home, federation.name, client_folder(file))
    if len(rounds(home.server(), federation.name)) < bound(home.server(), federation.name).rounds:
        serve(home, federation.name)
        warm(federation)
        federated_training(federation.name)
    return rounds(home.server(), federation.name)
