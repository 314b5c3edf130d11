"""A federation's configuration: what is accepted, and one clear line for everything that is not."""

from typing import Any

import pytest

from fedcore.config import AdapterConfig, Federation, federation
from fedcore.errors import ConfigError

GOOD: dict[str, Any] = {"name": "demo", "clients": ["b", "a"]}


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        federation({**GOOD, **values}, "f.yaml")
    message = str(caught.value)
    assert message.splitlines() == [message]
    return message


def test_a_name_and_clients_are_enough_and_clients_are_sorted() -> None:
    made = federation(GOOD, "f.yaml")
    assert made.clients == ("a", "b")
    assert made.training.settings().lr == made.training.lr


@pytest.mark.parametrize(
    ("values", "key", "near"),
    [
        ({"trainin": {}}, "trainin", "training"),
        ({"training": {"step": 3}}, "training.step", "steps"),
        ({"interaction": {"temprature": 1}}, "interaction.temprature", "temperature"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(values: dict[str, Any], key: str, near: str) -> None:
    assert refusal(values) == f"f.yaml: unknown key '{key}'; did you mean '{near}'?"


def test_an_unknown_key_that_is_near_nothing_lists_the_known_ones() -> None:
    assert (
        refusal({"clustering": {"zzzz": 1}})
        == "f.yaml: unknown key 'clustering.zzzz'; known here: k, method, min_size, most, on, soft, warmup"
    )


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"rounds": 0}, "rounds", "greater than or equal to 1 (got 0)"),
        ({"seed": "abc"}, "seed", "'abc'"),
        ({"clients": []}, "clients", "at least 1"),
        ({"clients": ["a", "B/.."]}, "clients", "'B/..' is no client id"),
        ({"clients": ["a", "b", "a"]}, "clients", "'a' is named twice"),
        ({"name": "server"}, "name", "none of bases, clients, logs, mlflow, prefect, server"),
        ({"name": "My run"}, "name", "lower-case"),
        ({"quorum": 1.5}, "quorum", "less than or equal to 1"),
        ({"training": 5}, "training", "dictionary"),
        ({"training": {"lr": "fast\nand loose"}}, "training.lr", "number"),
        ({"training": {"lr": 0}}, "training.lr", "greater than 0"),
        ({"training": {"lr": float("inf")}}, "training.lr", "finite"),
        ({"evaluation": {"guidance": float("nan")}}, "evaluation.guidance", "finite"),
        ({"evaluation": {"guidance": -1e30}}, "evaluation.guidance", "-100"),
        ({"adapter": {"target": "everything"}}, "adapter.target", "'attention' or 'all'"),
        ({"adapter": {"rank": 0}}, "adapter.rank", "greater than or equal to 1"),
        ({"adapter": {"rank": {"phone": 0}}}, "adapter.rank.phone", "greater than or equal to 1"),
        ({"adapter": {"alpha": 0}}, "adapter.alpha", "greater than 0"),
        ({"clustering": {"k": 0}}, "clustering.k", "greater than or equal to 1"),
        ({"clustering": {"k": "autp"}}, "clustering.k", "'auto'"),
        ({"aggregation": {"method": "svdd"}}, "aggregation.method", "svd_rest; did you mean 'svd'?"),
        ({"aggregation": {"energy": 0}}, "aggregation.energy", "greater than 0"),
        ({"interaction": {"method": "zzz"}}, "interaction.method", "'zzz' is not one of attention, none, rest_of_the_world, similarity"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_refused_in_one_line_with_file_field_and_reason(values: dict[str, Any], field: str, says: str) -> None:
    message = refusal(values)
    assert message.startswith(f"f.yaml: {field}: ")
    assert says in message


def test_missing_fields_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^f\.yaml: clients: Field required$"):
        federation({"name": "demo"}, "f.yaml")


def test_fedavg_with_ranks_that_differ_is_refused_before_anything_runs() -> None:
    ranks = {"adapter": {"rank": {"phone": 4, "laptop": 8}}}
    message = refusal({**ranks, "aggregation": {"method": "fedavg"}})
    assert "aggregation.method 'fedavg' needs equal ranks, but adapter.rank differs" in message
    federation({**GOOD, **ranks, "aggregation": {"method": "svd"}}, "f.yaml")
    federation({**GOOD, "adapter": {"rank": {"phone": 4, "laptop": 4}}, "aggregation": {"method": "fedavg"}}, "f.yaml")


def test_ranks_by_device_class_and_the_scale_alpha_over_rank() -> None:
    by_class = AdapterConfig(rank={"phone": 4, "laptop": 8}, alpha=16)
    assert (by_class.rank_of("phone"), by_class.scale_of(4), by_class.scale_of(8)) == (4, 4.0, 2.0)
    assert (AdapterConfig(rank=8).rank_of("anything"), AdapterConfig(rank=8).scale_of(8)) == (8, 1.0)
    with pytest.raises(ConfigError, match=r"adapter\.rank has no entry for device class 'watch'; it names laptop, phone"):
        by_class.rank_of("watch")


def test_the_digest_ignores_rounds_and_patience_and_nothing_else() -> None:
    plain = federation(GOOD, "f.yaml")
    assert federation({**GOOD, "rounds": 9, "client_timeout": 5}, "f.yaml").digest() == plain.digest()
    assert federation({**GOOD, "clients": ["a", "b"]}, "g.yaml").digest() == plain.digest()
    others: list[dict[str, Any]] = [
        {"seed": 1},
        {"clients": ["a"]},
        {"quorum": 0.5},
        {"base": "x"},
        {"name": "other"},
        {"adapter": {"rank": 9}},
    ]
    others += [{"training": {"lr": 1}}, {"clustering": {"k": 2}}, {"aggregation": {"rank": 2}}, {"interaction": {"own": 0.1}}]
    digests = {federation({**GOOD, **other}, "f.yaml").digest() for other in others}
    assert len(digests | {plain.digest()}) == len(others) + 1


def test_what_was_written_reads_back_the_same() -> None:
    made = federation({**GOOD, "adapter": {"rank": {"phone": 4}}, "clustering": {"k": "auto"}}, "f.yaml")
    assert Federation.model_validate_json(made.model_dump_json()) == made


def test_sites_name_the_clients_and_do_not_change_what_is_computed() -> None:
    at_sites = federation({"name": "demo", "sites": {"south": ["b"], "north": ["a"]}}, "f.yaml")
    assert at_sites.clients == ("a", "b")
    assert list(at_sites.sites) == ["north", "south"]
    assert at_sites.away
    plain = federation({"name": "demo", "clients": ["a", "b"]}, "f.yaml")
    assert not plain.away
    assert federation({"name": "demo", "clients": ["a", "b"], "dispatch": "pool"}, "f.yaml").away
    assert at_sites.digest() == plain.digest()
    assert Federation.model_validate_json(at_sites.model_dump_json()) == at_sites


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"sites": {"north": ["a"]}}, "sites must name every client once"),
        ({"sites": {"north": ["a", "b"], "south": ["b"]}}, "sites must name every client once"),
        ({"sites": {"North!": ["a", "b"]}}, "'North!' is no site name"),
        ({"dispatch": "pol"}, "dispatch"),
    ],
)
def test_sites_that_do_not_fit_are_refused(values: dict[str, Any], reason: str) -> None:
    assert reason in refusal(values)


RANKS = {"adapter": {"rank": {"phone": 4, "laptop": 8}}}


@pytest.mark.parametrize("method", ["svd", "svd_rest", "svd_rank_aware", "stack", "hetlora"])
def test_methods_for_mixed_ranks_take_them(method: str) -> None:
    federation({**GOOD, **RANKS, "aggregation": {"method": method}}, "f.yaml")


@pytest.mark.parametrize("method", ["fedavg", "fedex", "fedsa", "ffa", "rolora", "lora_fair"])
def test_other_methods_say_which_ones_do(method: str) -> None:
    interaction = {"interaction": {"method": "none"}}
    message = refusal({**RANKS, **interaction, "aggregation": {"method": method}})
    assert f"aggregation.method '{method}' needs equal ranks" in message
    assert "use one of hetlora, stack, svd, svd_rank_aware, svd_rest" in message


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"aggregation": {"method": "svd", "server": {"method": "adam"}}}, "server works on factors, which 'svd' makes anew every round"),
        (
            {"aggregation": {"method": "hetlora", "server": {"method": "adam"}}, "interaction": {"method": "none"}},
            "server works on factors, which 'hetlora' makes anew every round; use one of fedavg",
        ),
        ({"aggregation": {"method": "fedavg", "server": {"method": "adam"}}}, "interaction.method 'similarity' makes anew"),
        ({"aggregation": {"method": "fedsa"}}, "set interaction.method to 'none'"),
        (
            {"aggregation": {"method": "fedsa"}, "interaction": {"method": "none"}, "personal": {"method": "last"}},
            "set clustering.on to 'requirements'",
        ),
        ({"clustering": {"method": "alone"}}, "'alone' is local training only: set interaction.method to 'none'"),
        (
            {"clustering": {"method": "alone", "soft": 0.2}, "interaction": {"method": "none"}},
            "'alone' is local training only: leave out clustering.soft",
        ),
        *(
            (
                {"aggregation": {"method": rule}, "personal": {"method": "ditto"}},
                "personal.method 'ditto' goes on with an adapter of its own",
            )
            for rule in ("svd_rest", "stack", "fedex")
        ),
        ({"interaction": {"method": "rest_of_the_world"}, "personal": {"method": "ditto"}}, "with interaction.method 'rest_of_the_world'"),
        ({"clients": [f"c{i}" for i in range(2001)]}, "compares each of the 2001 clients with every other one"),
        (
            {"aggregation": {"method": "fedsa"}, "interaction": {"method": "none"}, "personal": {"method": "ditto"}},
            "personal.method to 'last'",
        ),
        ({"aggregation": {"method": "ffa"}, "personal": {"method": "dual"}}, "'ffa' hands over one factor"),
        ({"adapter": {"alpha": 1e300}}, "adapter.alpha"),
        ({"clustering": {"method": "hdbscan", "k": 3}}, "'hdbscan' finds the number of clusters itself: leave out clustering.k"),
        ({"clustering": {"method": "ifca"}}, "set clustering.k"),
        ({"clustering": {"method": "ifca", "k": 2}, "evaluation": {"others": False}}, "set evaluation.others to true"),
        ({"clustering": {"method": "ifca", "k": 2, "warmup": 0, "soft": 0.1}}, "leave out clustering.soft"),
        ({"clustering": {"method": "ifca", "k": 2}}, "set clustering.warmup to 0"),
        ({"clustering": {"method": "k-mean"}}, "did you mean 'k-means'?"),
        ({"participation": {"share": 0}}, "participation.share"),
    ],
)
def test_methods_that_do_not_go_together_are_refused(values: dict[str, Any], reason: str) -> None:
    assert reason in refusal(values)


def test_the_own_share_moves_in_a_straight_line_with_the_absolute_round() -> None:
    moving = federation({**GOOD, "interaction": {"own": 0.6, "own_last": 1.0, "over": 5}}, "f.yaml").interaction
    assert [round(moving.own_in(n), 6) for n in (1, 2, 3, 5, 6, 50)] == [0.6, 0.7, 0.8, 1.0, 1.0, 1.0]
    assert federation({**GOOD, "interaction": {"own": 0.6}}, "f.yaml").interaction.own_in(7) == 0.6


def test_the_learning_rate_moves_in_a_straight_line_and_a_client_is_given_the_round_s_own() -> None:
    moving = federation({**GOOD, "training": {"lr": 4e-3, "lr_last": 1e-3, "over": 4, "steps": 9}}, "f.yaml").training
    assert [moving.in_round(n, 9).lr for n in (1, 2, 4, 7)] == [pytest.approx(v) for v in (4e-3, 3e-3, 1e-3, 1e-3)]
    assert (moving.in_round(2, 5).settings().steps, moving.in_round(2, 5).settings().lr) == (5, pytest.approx(3e-3))
    assert moving.in_round(7, 9) == moving.in_round(5, 9)


def test_all_clients_are_one_cluster_while_the_clustering_warms_up() -> None:
    made = federation({**GOOD, "clustering": {"method": "hdbscan", "on": "both", "soft": 0.1, "warmup": 2}}, "f.yaml").clustering
    assert [(made.in_round(n).method, made.in_round(n).k, made.in_round(n).soft) for n in (1, 2, 3)] == [
        ("k-means", 1, None), ("k-means", 1, None), ("hdbscan", "auto", 0.1),
    ]  # fmt: skip
    assert made.in_round(1).on == "both"
