"""Federation files: read, overridden on the command line, refused in one line."""

from pathlib import Path

import pytest

from data.clients import load_client
from data.federations import client_folder, read_federation
from fedcore.errors import ConfigError

GOOD = "clients: [a, b]\nrounds: 2\ntraining:\n  lr: 1.0e-3\n"


def write(tmp_path: Path, text: str | bytes = GOOD) -> Path:
    file = tmp_path / "demo.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_the_name_is_given_or_the_files_own_or_its_stem(tmp_path: Path) -> None:
    assert read_federation(write(tmp_path), [], None).name == "demo"
    assert read_federation(write(tmp_path, GOOD + "name: mine\n"), [], None).name == "mine"
    assert read_federation(write(tmp_path, GOOD + "name: mine\n"), [], "given").name == "given"


def test_overrides_are_read_as_yaml_and_reach_nested_fields_whether_there_or_not(tmp_path: Path) -> None:
    overrides = ["clustering.k=4", "training.lr=2e-4", "rounds=5", "adapter.rank={phone: 4}", "evaluation.prompts=[cat, 'a=b']"]
    made = read_federation(write(tmp_path), overrides, None)
    assert (made.clustering.k, made.training.lr, made.rounds, made.adapter.rank) == (4, 2e-4, 5, {"phone": 4})
    assert made.evaluation.prompts == ("cat", "a=b")
    assert read_federation(write(tmp_path), ["rounds=3", "rounds=7"], None).rounds == 7


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.getcwd []", "!!python/name:os.getcwd", "!!python/tuple [1]"])
def test_nothing_but_plain_values_is_made_of_a_file_or_an_override(tmp_path: Path, tag: str) -> None:
    with pytest.raises(ConfigError, match="not readable as YAML"):
        read_federation(write(tmp_path, GOOD + f"seed: {tag}\n"), [], None)
    with pytest.raises(ConfigError, match="not readable as YAML"):
        read_federation(write(tmp_path), [f"seed={tag}"], None)


def test_on_is_a_word_and_no_truth(tmp_path: Path) -> None:
    text = GOOD + "clustering: {on: adapters}\nevaluation: {others: false, prompts: [no, off, trueish]}\n"
    made = read_federation(write(tmp_path, text), ["training.checkpointing=true"], None)
    assert made.clustering.on == "adapters"
    assert (made.evaluation.others, made.evaluation.prompts) == (False, ("no", "off", "trueish"))
    assert made.training.checkpointing


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rounds", r"^--set rounds: expected key=value, e\.g\. --set clustering\.k=4$"),
        ("=4", r"^--set =4: expected key=value"),
        ("rounds.more=4", r"^--set rounds\.more=4: 'rounds' holds a plain value, not further keys$"),
        ("rounds=[", r"^--set rounds=\[: the value is not readable as YAML$"),
        ("clusterin.k=4", r"demo\.yaml: unknown key 'clusterin'; did you mean 'clustering'\?$"),
        ("clustering.kk=4", r"demo\.yaml: unknown key 'clustering\.kk'; did you mean 'k'\?$"),
        ("rounds=many", r"demo\.yaml: rounds: .*\(got 'many'\)$"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_federation(write(tmp_path), [override], None)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "expected keys such as"), ("- a\n", "expected keys such as"), ("a: [\n", "not readable"), (b"a: \xff\n", "not readable")],
    ids=["empty", "list", "no yaml", "no text"],
)
def test_a_file_that_is_no_federation_is_refused_in_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_federation(write(tmp_path, text), [], None)
    assert str(caught.value).startswith(f"{tmp_path / 'demo.yaml'}: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml: there is no such file; `fedcore run federations/demo.yaml` runs the demo"):
        read_federation(tmp_path / "no.yaml", [], None)
    with pytest.raises(ConfigError, match="is a folder, expected a YAML file"):
        read_federation(tmp_path, [], None)


def test_client_files_lie_in_the_folder_of_the_same_name(tmp_path: Path) -> None:
    assert client_folder(tmp_path / "demo.yaml") == tmp_path / "demo"


def test_the_demo_federation_names_the_clients_that_have_files() -> None:
    file = Path(__file__).parents[2] / "federations" / "demo.yaml"
    assert read_federation(file, [], None).clients == tuple(sorted(p.stem for p in client_folder(file).glob("*.yaml")))


@pytest.mark.parametrize("file", sorted(Path("federations").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_federation_that_comes_with_fedcore_can_be_read_and_has_its_clients(file: Path) -> None:
    if "sets:" in file.read_text():
        return  # other words for the demo's wishes
    made = read_federation(file, [], None)
    if file.stem != "benchmark":  # its clients are drawn from a seed
        for client in made.clients if not made.sites else ():
            made.adapter.rank_of(load_client(client, client_folder(file)).device)
