"""`init` looks at a data set and writes a study file that fits it."""

import csv
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests_support import logit_bias

from study.config.loader import parse_study
from study.planning.plan import make_plan
from study.proposal.columns import Columns, find_columns
from study.proposal.design import SIZES, Design, fit_networks, fit_time
from study.proposal.study_text import Machine, study_name, study_text
from study.proposal.survey import Request, Survey, survey
from trainables.datasets.table_files import read_table
from trainables.errors import BadInputError

DESIGN = Design({"name": "mlp"}, "a reason", 40, 128, ("mae", "gce", "nce_agce"), SIZES[-1], 8.0)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGIT_BIAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LOGIT_BIAS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def written(path: str, **columns: list[Any]) -> str:
    with Path(path).open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
    return path


def columns_of(*options: str | None, **columns: list[Any]) -> Columns:
    label, text, clean_label = (*options, None, None, None)[:3]
    file = Path(written("t.csv", **columns))
    return find_columns(
        read_table(file, may_be_empty=(clean_label or "",)), label, text, clean_label
    )


LABEL = [f"kind{k % 3}" for k in range(60)]
NUMBER = [(7 * k % 60) / 10 for k in range(60)]
TEXT = [f"text number {k} is long" for k in range(60)]


def test_the_label_is_found_by_its_name_or_because_no_other_column_can_be_it() -> None:
    assert columns_of(a=NUMBER, label=LABEL).remarks == []
    named = columns_of(a=NUMBER, Species=LABEL, b=NUMBER)
    assert (named.label, named.features) == ("Species", ("a", "b"))
    assert "Species is taken as the label, by its name" in named.remarks[0]
    alone = columns_of(a=NUMBER, thing=LABEL)
    assert alone.label == "thing"
    assert "no other column can be one" in alone.remarks[0]
    for columns in ({"target": LABEL, "class": LABEL}, {"one": LABEL, "other": LABEL}):
        listed = rf"which column is the label\? --label with one of .*{next(iter(columns))}"
        with pytest.raises(BadInputError, match=listed):
            columns_of(a=NUMBER, **columns)
    with pytest.raises(BadInputError, match=r"--label x: t\.csv has the columns a, label"):
        columns_of("x", a=NUMBER, label=LABEL)


def test_a_second_label_is_no_input() -> None:
    """It would give the answer away."""
    corrected = [name if k % 5 else "kind0" for k, name in enumerate(LABEL)]
    with pytest.raises(BadInputError, match=r"'truth' agrees .* in 87 % .*--clean-label truth"):
        columns_of(a=NUMBER, label=LABEL, truth=corrected)
    found = columns_of(None, None, "truth", a=NUMBER, label=LABEL, truth=corrected)
    assert (found.clean_label, found.features) == ("truth", ("a",))
    unrelated = [f"kind{k // 20}" for k in range(60)]  # as a model of this name would agree
    assert columns_of(a=NUMBER, label=LABEL, other=unrelated).features == ("a", "other")


def test_texts_and_columns_that_are_no_input() -> None:
    found = columns_of(number=NUMBER, query=TEXT, label=LABEL)
    assert (found.text, found.features) == ("query", ())
    assert found.left_out == {"number": "the input is the text"}
    longer = [f"{text} and longer" for text in TEXT]
    several = columns_of(query=TEXT, body=longer, label=LABEL)
    assert several.text == "body"
    assert "If query is better: --text" in several.questions[0]
    assert columns_of(None, "query", query=TEXT, body=longer, label=LABEL).text == "query"
    counted = columns_of(row=list(range(60)), id=[9 * k % 61 for k in range(60)], label=LABEL)
    assert counted.left_out == {"row": "it counts the rows"}
    assert "Column id is different in every row" in counted.questions[0]
    with pytest.raises(BadInputError, match="no column beside the label 'label' can be an input"):
        columns_of(row=list(range(60)), label=LABEL)


@given(st.integers(0, 20_000))
def test_a_number_of_networks_is_kept_and_more_networks_give_no_smaller_study(most: int) -> None:
    least = SIZES[0].networks(2)
    if most < least:
        with pytest.raises(BadInputError, match=f"allowed is {least} or more"):
            fit_networks(DESIGN, most)
        return
    design = fit_networks(DESIGN, most)
    assert design.networks <= most
    assert fit_networks(DESIGN, most + 500).networks >= design.networks or most >= DESIGN.networks
    larger = [replace(DESIGN, size=s) for s in SIZES if s.networks(3) > design.networks]
    if len(design.losses) == 3 and larger:
        assert larger[0].networks > most


@given(st.floats(1, 600), st.floats(0.01, 100), st.integers(1, 64))
def test_a_time_is_kept_unless_no_study_is_so_small(
    minutes: float, seconds: float, workers: int
) -> None:
    design = fit_time(DESIGN, seconds, workers, minutes)
    machine = Machine(workers, ())
    takes = machine.minutes(design.networks, seconds * design.epochs / DESIGN.epochs)
    smallest = (10, ("mae", "gce"), SIZES[0])
    assert takes <= minutes + 0.1 or (design.epochs, design.losses, design.size) == smallest


def sample(name: str, options: dict[str, Any]) -> Survey:
    """The survey of the digits under another name."""
    found = survey(Request("digits"), has_gpu=False)
    return replace(found, name=name, options=options, class_sizes={"a: #\n\x9f b": 9, "c": 900})


@settings(deadline=None)
@given(
    st.text(min_size=1, max_size=20),
    st.dictionaries(
        st.sampled_from(["label", "text", "ignore", "delimiter"]),
        st.one_of(st.text(max_size=12), st.integers(), st.sampled_from(["no", "null", "1e3"])),
    ),
)
def test_every_name_and_option_comes_back_from_the_file(name: str, options: dict[str, Any]) -> None:
    text = study_text("x", sample(name, options), DESIGN, Machine(2, ()), "Some time.", "init")
    (dataset,) = yaml.safe_load(text)["grid"]["dataset"]
    assert dataset == {"name": name, **options}
    assert study_name(f"some/{name}/")


@pytest.mark.parametrize("size", SIZES)
def test_the_number_of_networks_is_about_that_of_the_plan(size: Any) -> None:
    design = replace(DESIGN, size=size)
    found = survey(Request("digits"), has_gpu=False)
    text = study_text("x", found, design, Machine(2, ()), "", "init")
    plan = make_plan(parse_study(text.encode(), "x"))
    assert design.networks == pytest.approx(sum(plan.networks().values()), rel=0.1)


def test_what_is_found_in_a_table() -> None:
    numbers = [*range(100), *range(20)]  # 20 rows twice, 7 of them with another label
    labels = [f"kind{k % 3}" for k in range(100)]
    labels += [f"kind{(k + (k < 7)) % 3}" for k in range(20)]
    truth = [labels[k] if k % 6 else "kind0" if k % 4 == 0 else "" for k in range(120)]
    path = written("t.csv", number=[n * n for n in numbers], label=labels, truth=truth)
    found = survey(Request(path, clean_label="truth"), has_gpu=False)
    assert found.class_sizes == dict(Counter(labels).most_common())
    assert (found.duplicates, found.conflicts) == (40, 14)
    known = [(a, b) for a, b in zip(labels, truth, strict=True) if b]
    assert found.verified == len(known)
    assert found.wrong == np.mean([a != b for a, b in known])
    assert found.info.test_size in (35, 36)  # 30 % of the rows
    few = written("few.csv", number=NUMBER, label=["rare", "rare", *LABEL[2:]])
    with pytest.raises(BadInputError, match=r"fewer than 3 examples: 'rare' \(2\)"):
        survey(Request(few), has_gpu=False)


def test_equal_files_of_a_folder_are_found() -> None:
    for name in ("left", "right"):
        Path("images", name).mkdir(parents=True)
        for k in range(8):
            image = Image.fromarray(np.full((9, 9), 10 * k + (name == "left"), np.uint8))
            image.save(f"images/{name}/{k}.png")
    original = Path("images/left/3.png")
    for copy in ("images/left/copy.png", "images/right/other.png"):
        Path(copy).write_bytes(original.read_bytes())
    found = survey(Request("images"), has_gpu=False)
    assert (found.kind, found.examples, found.info.input_shape) == ("image folder", 18, (3, 32, 32))
    assert (found.duplicates, found.conflicts) == (3, 3)


def test_the_command_writes_a_study_that_plan_accepts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = [name if k % 4 else "kind1" for k, name in enumerate(LABEL)]
    truth = [name if k % 2 else "" for k, name in enumerate(truth)]
    written("items.csv", a=rng.normal(size=60).tolist(), b=NUMBER, label=LABEL, truth=truth)
    command = ("init", "items.csv", "--clean-label", "truth", "--networks", "200")
    done = logit_bias(*command, "--output", "study.yaml")
    assert done.returncode == 0, done.stderr
    networks = int(re.search(r"study.yaml: (\d+) networks", done.stdout)[1])  # type: ignore[index]
    text = Path("study.yaml").read_text()
    assert "# - of 30 rows with a correct label beside their own, " in text
    config = parse_study(text.encode(), "study.yaml")
    assert (config.name, config.grid.noise[0].kind) == ("items", "as-is")
    assert sum(make_plan(config).networks().values()) == networks <= 200
    again = logit_bias(*command, "--output", "study.yaml")
    assert (again.returncode, "--overwrite replaces it" in again.stderr) == (2, True)
    assert Path("study.yaml").read_text() == text
