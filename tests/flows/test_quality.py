"""What models are worth beyond their clients: features against closed forms, and the stage itself on the real base."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from data.base.folder import EMBEDDED, digest
from data.base.load import load_base
from data.emoji.benchmark import USERS
from data.emoji.pack import drawings, pixels
from data.emoji.styles import STYLES
from data.home import HOME, Home
from data.records import Model
from fedcore import adapters
from fedcore.base import Conditioning
from fedcore.config import federation
from fedcore.evaluation import heldout_losses
from fedcore.injection import initial, target_shapes
from fedcore.pretraining.captions import STYLE_WORDS
from fedcore.prompts import encode
from fedcore.statistics import kernel_distance
from fedcore.training import Examples
from flows.benchmarks import quality
from flows.benchmarks.quality import distances, similarity, speaker
from tasks._stage import commit
from tasks.assess import AssessJob, DrawJob, SplitJob, assessed, drawn, drawn_split
from tests.flows.test_comparison import record
from tests.tiny import random_adapter


def test_the_cluster_that_speaks_for_a_style_is_where_most_of_its_clients_are() -> None:
    made = record(1, dict.fromkeys("abc", 0.5), groups="xyy", clusters="011")
    of = {0: ["a"], 1: ["b", "c"]}
    made = made.model_copy(update={"clusters": {i: c.model_copy(update={"members": of[i]}) for i, c in made.clusters.items()}})
    assert (speaker(made, "x"), speaker(made, "y"), speaker(made, "nobody's")) == (0, 1, 0)


def test_distances_are_those_of_each_user_from_its_own_style() -> None:
    draw = np.random.default_rng(0)
    real = {"a": draw.normal(size=(30, 4)), "b": draw.normal(5.0, size=(30, 4))}
    users = {f"u{i}": "ab"[i % 2] for i in range(6)}
    made = {u: draw.normal(5.0 * (style == "b") + i / 3, size=(12, 4)) for i, (u, style) in enumerate(users.items())}
    assert distances(made, users, real) == [kernel_distance(made[u], real[style]) for u, style in users.items()]


def test_a_hybrid_counts_as_much_as_the_style_it_resembles_less() -> None:
    real = {"a": np.array([[2.0, 1.0, 0.0]]), "b": np.array([[0.0, 1.0, 2.0]])}  # seen from (1, 1, 1): opposite directions
    real |= {"c": np.array([[1.0, 3.0, 1.0]]), "d": np.array([[1.0, -1.0, 1.0]])}
    only_a, halfway, neither = ([[3.0, 1.0, -1.0]], [[1.0, 3.0, 1.0]], [[1.0, -1.0, 1.0]])
    assert similarity({("a", "b"): np.array(only_a)}, real, 0).mean == pytest.approx(-1)
    assert similarity({("a", "c"): np.array([[2.0, 2.0, 0.0]])}, real, 0).mean > 0.5
    assert similarity({("a", "c"): np.array(neither)}, real, 0).mean == pytest.approx(-1)
    assert similarity({("a", "b"): np.array(halfway)}, real, 0).mean == pytest.approx(0, abs=1e-12)
    pairs = {pair: np.array(only_a) for pair in combinations("abc", 2)}
    assert similarity(pairs, real, 0) == similarity(pairs, real, 0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv(HOME, str(tmp_path))
    return Home.current()


def job(kind: type[DrawJob], model: Model, **more: object) -> DrawJob:
    common = {"base": "embedded", "base_digest": digest(EMBEDDED), "style": USERS[0], "pictures": 2, "steps": 1, "guidance": 2.0, "seed": 0}
    return kind.model_validate({**common, "model": model, **more})


def loss_on_the_base_s_own_styles() -> float:
    """Four unseen subjects of each, asked for in the first words of their style."""
    base = load_base("embedded")
    losses = []
    for style in (s.name for s in STYLES if s.role == "base"):
        own = [d for d in drawings(style) if d.unseen][:4]
        with torch.no_grad():
            mean = base.vae.encode(pixels([d.png for d in own]).float() / 127.5 - 1).latent_dist.mean * base.vae.config.scaling_factor
        tokens = encode(base, [f"{d.names[0]}, {STYLE_WORDS[style][0]}" for d in own]).prompts
        losses.append(Examples(mean, torch.full_like(mean, -30.0), tokens))
    together = Examples(
        torch.cat([e.mean for e in losses]),
        torch.cat([e.log_variance for e in losses]),
        Conditioning(torch.cat([e.prompts.tokens for e in losses])),
    )
    return heldout_losses(base, together, None, timesteps=1, seed=0).mean().item()


def test_pictures_and_losses_are_those_of_the_summed_parts(home: Home) -> None:
    shapes, store = target_shapes(load_base("embedded"), "attention"), home.server()
    one, two = (store.put(adapters.to_bytes(random_adapter(shapes, 2, name, size=0.02)), "adapter", ".safetensors") for name in ("1", "2"))
    nothing = store.put(adapters.to_bytes(initial(shapes, rank=2, scale=1.0, seed=0)), "adapter", ".safetensors")
    made = {
        name: commit(job(DrawJob, model), drawn).outputs["features"]
        for name, model in {
            "base": (), "nothing": ((1.0, nothing),), "one": ((1.0, one),), "both": ((1.0, one), (1.0, two)),
            "halves": ((0.5, one), (0.5, one)),
        }.items()
    }  # fmt: skip
    features = {name: load(store.get(ref))["features"] for name, ref in made.items()}
    np.testing.assert_allclose(features["base"], features["nothing"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features["one"], features["halves"], rtol=1e-3, atol=1e-4)
    assert np.abs(features["one"] - features["base"]).max() > 0.01
    assert np.abs(features["both"] - features["one"]).max() > 0.01
    measured = {name: commit(job(AssessJob, model, timesteps=1), assessed) for name, model in {"base": (), "one": ((1.0, one),)}.items()}
    assert measured["one"].outputs["features"] == made["one"]
    assert measured["one"].record["style"] != measured["base"].record["style"]
    assert measured["base"].record["plain"] == pytest.approx(loss_on_the_base_s_own_styles(), rel=1e-4)
    assert measured["one"].record["plain"] > measured["base"].record["plain"]
    assert len(measured["one"].record["named"]) == 2


def test_two_halves_of_one_model_draw_what_it_draws_alone(home: Home) -> None:
    shapes, store = target_shapes(load_base("embedded"), "attention"), home.server()
    own = ((1.0, store.put(adapters.to_bytes(random_adapter(shapes, 2, "own", size=0.02)), "adapter", ".safetensors")),)
    whole = commit(job(DrawJob, own, steps=2), drawn).outputs["pictures"]
    split = {
        name: commit(job(SplitJob, own, steps=2, **early, done=1), drawn_split).outputs["pictures"]
        for name, early in {
            "same": {"early": own, "generic": None}, "model": {"early": (), "generic": None}, "prompt": {"early": own, "generic": ""},
        }.items()
    }  # fmt: skip
    assert split["same"] == whole
    assert whole not in (split["model"], split["prompt"])
    assert split["model"] != split["prompt"]


def test_a_round_s_quality_is_that_of_its_personal_models_and_of_even_mixtures_of_its_styles_clusters(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pictures each; put together again here from the stages' own results."""
    monkeypatch.setattr(quality, "PICTURES", 2)
    monkeypatch.setattr(quality, "STEPS", 1)
    monkeypatch.setattr(quality, "scheduled", lambda run, job, compute: lambda: run(job, compute))  # in this process
    shapes, store = target_shapes(load_base("embedded"), "attention"), home.server()
    refs = [store.put(adapters.to_bytes(random_adapter(shapes, 2, i, size=0.03)), "adapter", ".safetensors") for i in range(5)]
    made = record(1, dict.fromkeys("abc", 0.5), clusters="011")
    members, styles = {0: ["a"], 1: ["b", "c"]}, {"a": USERS[0], "b": USERS[1], "c": USERS[1]}
    clients = {c: who.model_copy(update={"personal": refs[i], "group": styles[c]}) for i, (c, who) in enumerate(made.clients.items())}
    clusters = {i: of.model_copy(update={"members": members[i], "adapter": refs[3 + i]}) for i, of in made.clusters.items()}
    made = made.model_copy(update={"base": digest(EMBEDDED), "clients": clients, "clusters": clusters})
    values = {"name": "x", "clients": list("abc"), "evaluation": {"timesteps": 1}}
    found = quality.quality(home, federation(values, "f.yaml"), made)

    common = {"pictures": 2, "guidance": quality.GUIDANCE}
    own = {
        c: commit(job(AssessJob, ((1.0, refs[i]),), timesteps=1, style=styles[c], who=c, **common), assessed) for i, c in enumerate("abc")
    }
    assert found.retrieval == np.mean([hand == styles[c] for c in "abc" for hand in own[c].record["named"]])
    assert found.other_subjects == pytest.approx(np.mean([m.record["style"] for m in own.values()]))
    assert found.base_styles == pytest.approx(np.mean([m.record["plain"] for m in own.values()]))
    real = quality.real_features()
    assert set(real) == set(USERS)
    features = {c: load(store.get(m.outputs["features"]))["features"].astype(np.float64) for c, m in own.items()}
    assert found.kid.mean == pytest.approx(np.mean([kernel_distance(features[c], real[styles[c]]) for c in "abc"]))
    of = {style: refs[4] if style == USERS[1] else refs[3] for style in USERS}  # most of its clients, or the first of equals
    resembling = []
    for pair in combinations(USERS, 2):
        halves = tuple((0.5, of[style]) for style in pair)
        both = [commit(job(DrawJob, halves, style=style, **common), drawn) for style in pair]
        mixed = np.concatenate([load(store.get(m.outputs["features"]))["features"].astype(np.float64) for m in both])
        resembling.append(quality.resemblance(mixed, pair, real))
    assert found.hybrid.mean == pytest.approx(np.mean(resembling))
