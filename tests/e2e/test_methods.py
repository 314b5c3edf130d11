"""Methods that change what travels, who trains and what a model is made of, through real rounds; all of them in the slow suite."""

import hashlib
from pathlib import Path

import pytest
import yaml

from data.home import Home
from data.records import RoundRecord, rounds
from fedcore.adapters import from_bytes, split, summed, to_bytes
from fedcore.aggregation import AGGREGATIONS
from fedcore.clustering import BY_LOSS, CLUSTERINGS
from fedcore.interaction import INTERACTIONS
from fedcore.personal import SHARES
from tests.e2e.conftest import World, write_world

MIXED = "adapter.rank={phone: 2, laptop: 4}"
TOGETHER = {
    "one": (
        MIXED, "aggregation.method=svd_rest", "clustering.on=both", "clustering.soft=0.3", "clustering.warmup=1", "clustering.k=2",
        "personal.method=dual", "personal.steps=2", "interaction.method=attention", "interaction.own_last=1.0",
        "participation.stragglers=0.5", "training.prox=0.01", "training.lr_last=1e-4",
    ),
    "two": (
        "aggregation.method=ffa", "aggregation.server.method=adam", "aggregation.server.lr=0.01", "aggregation.weights=uniform",
        "clustering.method=ifca", "interaction.method=rest_of_the_world", "interaction.own=0.8",
        "personal.method=mixture",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def mixed_world(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> World:
    """The tiny federation, on two kinds of devices."""
    world = write_world(tmp_path_factory.mktemp("methods"), base_folder)
    for i, file in enumerate(sorted((world.root / "demo").glob("*.yaml"))):
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "device": ("phone", "laptop")[i % 2]}))
    return world


def ran_with(world: World, server: dict[str, str], name: str, settings: tuple[str, ...]) -> list[RoundRecord]:
    """Two rounds."""
    options = [part for setting in settings for part in ("--set", setting)]
    done = world.fedcore("run", str(world.file), "--name", name, *options, **server)
    assert done.code == 0, done.output
    return rounds(Home(world.home).server(), name)


@pytest.fixture(scope="module")
def together(mixed_world: World, server: dict[str, str]) -> dict[str, list[RoundRecord]]:
    return {name: ran_with(mixed_world, server, name, settings) for name, settings in TOGETHER.items()}


@pytest.mark.parametrize("name", TOGETHER)
def test_everybody_comes_through_and_every_personal_model_has_learnt(together: dict[str, list[RoundRecord]], name: str) -> None:
    for record in together[name]:
        assert not [c.failed for c in record.clients.values() if c.failed]
        for client in record.clients.values():
            assert client.test is not None
            assert client.test["personal"] != client.test["base"]
            assert set(client.by_cluster) == {str(i) for i in record.clusters}


def test_a_personal_model_of_several_parts_is_what_its_client_draws_with(
    together: dict[str, list[RoundRecord]], mixed_world: World, tmp_path: Path
) -> None:
    first, second = together["one"]
    assert [len(c.beside) for c in first.clients.values()] == [1, 1, 1, 1]  # the shared adapter beside the own one
    assert all(len(c.beside) >= 1 for c in second.clients.values())
    before = {c: who.personal for c, who in first.clients.items()}
    assert all(who.personal != before[c] for c, who in second.clients.items())
    out = tmp_path / "cat.png"
    drawn = mixed_world.command("generate", "one", "--client", "c01", "--prompt", "a cat", "--steps", "2", "--out", str(out))
    assert drawn.code == 0, drawn.output
    assert out.exists()


def test_all_learn_together_until_they_are_grouped(together: dict[str, list[RoundRecord]]) -> None:
    assert [len(record.clusters) for record in together["one"]] == [1, 2]


def test_stragglers_do_a_part_and_small_devices_send_less(together: dict[str, list[RoundRecord]]) -> None:
    steps = {len(c.training.curve) for record in together["one"] for c in record.clients.values() if c.training}
    assert steps == {2, 4}
    sizes = {c.device: c.upload.bytes for c in together["one"][0].clients.values() if c.upload}
    assert sizes["phone"] < sizes["laptop"]


def test_half_the_bytes_travel_where_one_factor_is_frozen_and_it_keeps_its_bits(
    together: dict[str, list[RoundRecord]], mixed_world: World
) -> None:
    first, second = together["two"]
    assert first.bytes_up < 0.75 * first.bytes_down
    store = Home(mixed_world.home).server()
    a = [from_bytes(store.get(c.personal)) for record in (first, second) for c in record.clients.values() if c.personal]
    assert all(adapter[name].a.equal(a[0][name].a) for adapter in a for name in a[0])


def test_the_rest_of_the_world_stands_beside_a_cluster_s_own_adapter(together: dict[str, list[RoundRecord]], mixed_world: World) -> None:
    store = Home(mixed_world.home).server()
    beside = [c for record in together["two"] for c in record.clusters.values() if c.beside is not None]
    assert len(beside) == sum(len(record.clusters) for record in together["two"] if len(record.clusters) > 1)
    for cluster in beside:
        assert cluster.beside is not None
        whole = summed([from_bytes(store.get(ref)) for ref in (cluster.own, cluster.beside)])
        kept = from_bytes(store.get(cluster.adapter))
        assert all(kept[n].delta().allclose(whole[n].delta(), atol=1e-6) for n in whole)


def test_clients_that_choose_are_where_their_tuning_loss_was_lowest(together: dict[str, list[RoundRecord]]) -> None:
    first, second = together["two"]
    for client, record in second.clients.items():
        losses = first.clients[client].by_cluster
        assert str(record.cluster) == min(losses, key=lambda i: (losses[i], int(i)))


def test_a_mixture_is_no_worse_on_its_tuning_pictures_than_its_cluster_s_adapter(
    together: dict[str, list[RoundRecord]], mixed_world: World, tmp_path: Path
) -> None:
    for record in together["two"]:
        for client, who in record.clients.items():
            assert who.tune is not None
            assert who.tune["personal"] is not None
            assert who.tune["cluster"] is not None
            assert who.tune["personal"] <= who.tune["cluster"] + 1e-6  # everybody's rank holds all of it; sums round
            assert who.share in SHARES
            weights = {ref: weight for weight, ref in record.model_of(client)}
            assert weights.get(who.personal, 0.0) == who.share
            assert {weights.get(ref, 0.0) for ref in who.mixed} == {1 - who.share}
    shares = {who.share for who in together["two"][-1].clients.values()}
    assert shares - {1.0}, "a mixture that is none shows nothing"
    out = tmp_path / "cat.png"
    drawn = mixed_world.command("generate", "two", "--client", "c01", "--prompt", "a cat", "--steps", "2", "--out", str(out))
    assert (drawn.code, out.exists()) == (0, True), drawn.output


def test_who_is_not_asked_keeps_what_it_had(mixed_world: World, server: dict[str, str]) -> None:
    first, second = ran_with(mixed_world, server, "half", ("participation.share=0.5", "seed=2"))
    assert [{c for c, who in record.clients.items() if who.asked} for record in (first, second)] == [{"c01", "c04"}, {"c01", "c05"}]
    for client, record in second.clients.items():
        if not record.asked:
            assert record.personal == first.clients[client].personal
            assert record.test is None
    alone, joined = first.clients["c04"].cluster, first.clients["c01"].cluster
    assert alone is not None
    assert joined is not None
    assert {i: c.members for i, c in second.clusters.items()} == {alone: ["c04"], joined: ["c01", "c05"]}
    assert second.clusters[alone].adapter == first.clusters[alone].adapter
    assert second.clusters[joined].adapter != first.clusters[joined].adapter


@pytest.mark.slow
def test_a_run_can_begin_where_another_ended(together: dict[str, list[RoundRecord]], mixed_world: World, server: dict[str, str]) -> None:
    last = together["one"][-1].clusters
    number = min(last)
    (record,) = ran_with(mixed_world, server, "after", ("rounds=1", "begin.run=one", f"begin.cluster={number}"))
    store = Home(mixed_world.home).server()
    want = to_bytes(split(from_bytes(store.get(last[number].adapter)), 4, 1.0, "cut", seed=0).start, transport="fp16")
    assert {c.training.echo for c in record.clients.values() if c.training} == {hashlib.sha256(want).hexdigest()}
    nowhere = mixed_world.fedcore(
        "run", str(mixed_world.file), "--name", "nowhere", "--set", "begin.run=two", "--set", "begin.cluster=77", **server
    )
    assert nowhere.code == 2
    assert "begin: run 'two' has no cluster 77; its clusters: " in nowhere.output
    assert Home(mixed_world.home).server().read_text("runs/nowhere/federation.json") is None


NO_EXCHANGE = ("interaction.method=none",)
GO_WITH = {"alone": ("clustering.k=auto", *NO_EXCHANGE), "hdbscan": ("clustering.k=auto",)}
PERSONAL = {
    "ditto": ("personal.method=ditto",),
    "dual": ("personal.method=dual",),
    "mixture": ("personal.method=mixture",),
}
EACH = {
    **{f"aggregation-{m}": (f"aggregation.method={m}", *(NO_EXCHANGE if AGGREGATIONS[m].shares else ())) for m in AGGREGATIONS},
    **{f"mixed-{m}": (f"aggregation.method={m}", MIXED) for m, rule in AGGREGATIONS.items() if rule.mixed_ranks},
    **{f"clustering-{m}": (f"clustering.method={m}", "clustering.min_size=1", *GO_WITH.get(m, ())) for m in (*CLUSTERINGS, BY_LOSS)},
    **{f"on-{view}": (f"clustering.on={view}",) for view in ("adapters", "both")},
    **{f"interaction-{m}": (f"interaction.method={m}",) for m in INTERACTIONS},
    **{
        f"server-{m}": ("aggregation.method=fedavg", f"aggregation.server.method={m}", "aggregation.server.lr=0.1", *NO_EXCHANGE)
        for m in ("momentum", "adam", "yogi")
    },
    **PERSONAL,
}


@pytest.mark.slow
@pytest.mark.parametrize("case", EACH)
def test_each_method_learns(mixed_world: World, server: dict[str, str], case: str) -> None:
    records = ran_with(mixed_world, server, case.replace("_", "-"), EACH[case])
    assert len(records) == 2
    if "fedsa" not in case:  # its clusters have no update
        assert records[-1].mean("cluster", "test") < records[-1].mean("base", "test")
    for client in records[-1].clients.values():
        assert client.failed is None
        assert client.test is not None
        assert client.test["personal"] is not None
        assert client.test["base"] is not None
        assert client.test["personal"] < client.test["base"]
