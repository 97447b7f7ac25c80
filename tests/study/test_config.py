"""Bad study files: one line that names the key, the value and what is allowed."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.config.loader import StudyFileError, parse_study, read_study
from study.config.shipped import preset_question, presets

GOOD: dict[str, Any] = {
    "name": "tiny",
    "grid": {
        "dataset": ["digits"],
        "noise": [{"kind": "symmetric", "rate": 0.2}],
        "model": [{"name": "mlp", "width": 8, "depth": 1}],
        "loss": ["mae", "ce"],
    },
    "recipe": {"epochs": 1, "batch_size": 64},
    "search": {
        "networks_per_cell": 2,
        "epsilon": {"low": 0, "high": 8},
        "lr": {"low": 0.01, "high": 1, "log": True},
    },
    "confirm": {"seeds": 2},
}


def changed(path: str, value: Any) -> bytes:
    data = copy.deepcopy(GOOD)
    *sections, last = path.split("/")
    place: Any = data
    for section in sections:
        place = place[int(section) if section.isdigit() else section]
    place[int(last) if last.isdigit() else last] = value
    return yaml.safe_dump(data).encode()


@pytest.mark.parametrize(
    ("path", "value", "fragments"),
    [
        (
            "search/networks_per_cel",
            3,
            ["search.networks_per_cel", "did you mean networks_per_cell"],
        ),
        ("serach", {}, ["serach: unknown key", "did you mean search"]),
        (
            "search/sampler",
            "gird",
            ["search.sampler = 'gird'", "tpe; did you mean grid"],
        ),
        ("search/sampler", "grid", ["search", "`grid: {epsilon: …, lr: …}` goes with"]),
        ("search/worker_hours", 0, ["search.worker_hours = 0", "greater than 0"]),
        ("search/rounds_in_flight", 0, ["search.rounds_in_flight = 0"]),
        (
            "search/grid",
            {"epsilon": 2, "lr": 2},
            ["search", "`grid: {epsilon: …, lr: …}` goes with `sampler: grid`"],
        ),
        ("sweep", {"points": 4, "seeds": 2, "until_interval": -1}, ["sweep.until_interval = -1"]),
        (
            "sweep",
            {"points": 4, "seeds": 3, "until_interval": 1, "most_seeds": 2},
            ["most_seeds = 2: at least seeds = 3"],
        ),
        ("sweep", {"points": 3, "seeds": 3, "until_interval": 1}, ["points = 3", "4 or more"]),
        ("resources", {"accelerator_type": "A 100"}, ["resources.accelerator_type = 'A 100'"]),
        ("resources", {"checkpoint_minutes": -1}, ["resources.checkpoint_minutes = -1"]),
        ("grid/loss", ["maee"], ["grid.loss[0]", "'maee'", "mae"]),
        ("grid/loss", [{"name": "gce", "p": 1}], ["grid.loss[0]", "no parameter p", "q"]),
        ("grid/noise/0/rate", 1.3, ["grid.noise[0].rate = 1.3", "fraction from 0 to 1"]),
        ("grid/noise/0/kind", "symetric", ["grid.noise[0].kind = 'symetric'", "did you mean symm"]),
        ("grid/dataset", ["digit"], ["grid.dataset[0]", "digits"]),
        ("grid/dataset", [{"name": "digits", "classes": 1}], ["classes = 1", "2 to 10"]),
        ("grid/dataset", [], ["grid.dataset", "at least 1"]),
        ("grid/dataset", ["digits", "digits"], ["digits given twice"]),
        ("grid/model", ["mlpp"], ["grid.model[0]", "'mlpp'", "mlp"]),
        ("grid/model", [{"name": "mlp", "widht": 4}], ["grid.model[0]", "widht"]),
        ("search/epsilon", {"low": 8, "high": 0}, ["search.epsilon", "low = 8, high = 0", "below"]),
        ("search/lr", {"low": 0, "high": 1}, ["search.lr", "above 0"]),
        ("recipe/epochs", 0, ["recipe.epochs = 0", "greater than or equal to 1"]),
        ("recipe/epochs", "many", ["recipe.epochs = 'many'", "integer"]),
        (
            "recipe/schedule",
            "cosin",
            ["recipe.schedule = 'cosin'", "must be 'cosine', 'constant' or 'step'"],
        ),
        (
            "search/replicates",
            2,
            ["search.replicates = 2: more than 1 goes with the arm best in confirm.arms"],
        ),
        ("search/replicates", 0, ["search.replicates = 0"]),
        (
            "confirm",
            {"seeds": 2, "replicate_seeds": 3},
            ["confirm", "replicate_seeds goes with the arm best"],
        ),
        (
            "confirm/arms",
            ["tuned", "analytic:activatoin"],
            ["confirm.arms", "'analytic:activatoin'"],
        ),
        ("name", "../up", ["name = '../up'"]),
        ("storage", "", ["storage = ''"]),
        ("storage", "s3://", ["storage", "bucket/prefix"]),
        ("storage", "foo://bar", ["storage", "no storage"]),
        ("search/lr", {"low": 0.1, "high": math.inf}, ["search.lr.high = inf", "finite"]),
        ("search/epsilon", {"low": math.nan, "high": 1}, ["search.epsilon.low = nan", "finite"]),
        ("grid/noise/0/rate", True, ["grid.noise[0].rate = True", "number"]),
        ("grid/noise/0/rate", "0.2", ["grid.noise[0].rate = '0.2'", "number"]),
        ("grid/noise/0/dataset", "cifar10", ["noise kind symmetric"]),
        ("seed", -1, ["seed = -1", "greater than or equal to 0"]),
        ("recipe/batch_size", 0, ["recipe.batch_size = 0"]),
        ("recipe/augment", {"crop": 1000}, ["crop = 1000"]),
        ("recipe/clip_norm", math.inf, ["recipe.clip_norm = inf", "finite"]),
        ("grid/model", [{"name": "mlp", "width": 0}], ["width = 0"]),
        ("grid/model", [{"name": "mlp", "width": 10**12}], ["model mlp"]),
        ("grid/model", ["os:sep"], ["os:sep", "not a class"]),
        ("grid/model", ["torch.nn:LSTM"], ["torch.nn:LSTM"]),
        ("grid/model", ["tests_support:WithLayerNorm"], ["LayerNorm", "Linear"]),
        (
            "grid/model",
            [{"name": "tests_support:Partly", "spare": True}],
            ["_spare.weight", "freeze"],
        ),
        ("grid/loss", ["math:sqrt"], ["math:sqrt", "no loss"]),
        ("grid/loss", ["tests_support:reducing_loss"], ["one value per example"]),
        ("grid/loss", [{"name": "gce", "q": 10**400}], ["at most"]),
        ("grid/loss", [{"name": "gce", "q": -1}], ["q = -1"]),
        ("search/networks_per_cell", 10**30, ["search.networks_per_cell", "less than or equal"]),
        ("search/rungs", [{"epoch": 1, "keep": 0.5}], ["points_per_round"]),
    ],
)
def test_one_line_names_key_value_and_what_is_allowed(
    path: str, value: Any, fragments: list[str]
) -> None:
    with pytest.raises(StudyFileError) as caught:
        parse_study(changed(path, value), "study.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("study.yaml: ")
    for fragment in fragments:
        assert fragment in message


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(StudyFileError, match=r"study.yaml: line 2: key 'name' given twice"):
        parse_study(b"name: a\nname: b\n", "study.yaml")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"- a",
        b"{",
        b"\xff\xfe",
        b"name: 2024-13-45",
        b"name: !!int x",
        b"name: !!map x",
        b"seed: " + b"9" * 5000,
        b"[" * 3000,
    ],
)
def test_a_text_that_is_no_study_gives_one_line(text: bytes) -> None:
    with pytest.raises(StudyFileError) as caught:
        parse_study(text, "study.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_1e_3_is_a_number_and_merge_keys_merge() -> None:
    text = yaml.safe_dump(GOOD).replace("low: 0.01", "low: 1e-3")
    text = text.replace("recipe:\n", "recipe:\n  <<: {momentum: 0.5}\n")
    config = parse_study(text.encode(), "study.yaml")
    assert config.search.lr.low == 1e-3
    assert config.recipe.momentum == 0.5


def test_learning_rates_are_logarithmic_by_default() -> None:
    assert parse_study(changed("search/lr", {"low": 0.1, "high": 1}), "s").search.lr.log
    linear = changed("search/lr", {"low": 0.1, "high": 1, "log": False})
    assert not parse_study(linear, "s").search.lr.log


def test_an_unreadable_file_gives_one_line(tmp_path: Path) -> None:
    for study in ("x" * 5000, str(tmp_path)):
        with pytest.raises(StudyFileError):
            read_study(study)


def test_missing_key_is_named() -> None:
    data = {key: value for key, value in GOOD.items() if key != "recipe"}
    with pytest.raises(StudyFileError, match="recipe: this key is needed"):
        parse_study(yaml.safe_dump(data).encode(), "study.yaml")


def test_every_preset_is_valid() -> None:
    assert "quickstart" in presets()
    for name in presets():
        assert read_study(name)[0].name == name
        assert preset_question(name).endswith("?")


def test_no_such_study_lists_presets(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match="quickstart"):
        read_study(str(tmp_path / "none.yaml"))


def test_a_grid_search_spends_its_budget_exactly() -> None:
    data = yaml.safe_load(changed("search/sampler", "grid"))
    data["search"] |= {"grid": {"epsilon": 3, "lr": 2}, "networks_per_cell": 6}
    assert parse_study(yaml.safe_dump(data).encode(), "study.yaml")
    data["search"]["networks_per_cell"] = 7
    with pytest.raises(StudyFileError, match=r"networks_per_cell = 7: .* 3 × 2 = 6"):
        parse_study(yaml.safe_dump(data).encode(), "study.yaml")
