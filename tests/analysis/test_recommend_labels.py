"""What a recommendation says about labels that may be wrong, and the code that it prints."""

import ast
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import BEST_ARMS, Planted, write_study

from analysis.recommendation.recommend import recommend
from analysis.recommendation.records import Recommendation, Setting
from analysis.recommendation.snippet import snippet
from analysis.recommendation.text import recommendation_text
from study.config.sections import RecipeChoice
from study.execution.result_writer import null_where_unknown
from study.results.folder import StudyFolder
from study.results.schema import TRIALS

SETTING = Setting("d/n/m/gce", "best", "gce", {"q": 0.5}, None, 1.5, None, 0.2)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study of labels as they are, with the nulls that a run writes."""
    cells = [Planted(noise_kind="as-is", noise_rate=0.4, ce=0.85)]
    written = write_study(
        tmp_path / "s", cells, arms=BEST_ARMS, confirm_seeds=6, replicates=1, test_examples=2000
    )
    for path in (written / "trials").rglob("*.parquet"):
        rows = [
            null_where_unknown({**row, "noise_rate_asked": None}, "as-is")
            for row in pq.read_table(path).to_pylist()
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=TRIALS), path)
    return StudyFolder(str(written))


def only(folder: StudyFolder, **options: Any) -> tuple[Recommendation, str]:
    result = recommend(folder.uri, **options)
    (recommendation,) = result.recommendations
    return recommendation, recommendation_text(result)


def test_unknown_labels_are_said_to_be_unknown(folder: StudyFolder) -> None:
    result, text = only(folder)
    labels = result.labels
    assert (labels.kind, labels.rate, labels.rate_source) == ("as-is", None, "unknown")
    assert (labels.test_labels, labels.validation, labels.gain) == ("as-is", None, None)
    assert "how many are wrong is unknown" in text


def test_an_assumed_rate_gives_bounds_and_a_gain_on_correct_labels(folder: StudyFolder) -> None:
    result, text = only(folder, noise_rate=0.05)
    labels = result.labels
    assert (labels.rate, labels.rate_source, labels.test_labels) == (0.05, "assumed", "as-is")
    assert labels.test is not None
    assert labels.test.low is not None
    assert labels.test.low < labels.test.estimate < labels.test.high
    # 100 classes: a point on correct labels is worth 0.95 − 0.05 / 99 points on these.
    assert result.over_ce is not None
    assert labels.gain == pytest.approx(result.over_ce.mean / (0.95 - 0.05 / 99))
    assert "If 5 % of the labels are wrong (--noise-rate)" in text


def test_rows_of_known_label_measure_the_rate_and_the_test_accuracy(folder: StudyFolder) -> None:
    """A run records transitions of labels as they are where, and only where, it knows some."""
    kept, common = 0.75, {"noise": "as-is-0.4", "noise_kind": "as-is", "noise_rate_asked": None}
    rows = [
        {**common, "dataset": dataset, "true_class": i, "noisy_class": j, "true_name": str(i),
         "noisy_name": str(j), "share": kept if i == j else 1 - kept}
        for dataset in ("digit-pairs", "digit-pairs-30")
        for i in range(100) for j in (i, (i + 1) % 100)
    ]  # fmt: skip
    folder.write_transitions([row for row in rows if row["dataset"] == "digit-pairs-30"])
    assert only(folder)[0].labels.test_labels == "as-is"  # another data set's record
    folder.write_transitions(rows)
    result, text = only(folder)
    labels = result.labels
    assert (labels.rate_source, labels.test_labels) == ("measured", "correct")
    assert labels.rate == pytest.approx(0.25)
    assert (labels.test, labels.gain) == (None, None)
    assert "25 % of the labels of the test examples are measured to be wrong" in text
    assert "Test accuracy is measured on correct labels" in text


def test_rows_of_unknown_truth_have_no_clean_accuracy() -> None:
    row = {"train_acc_clean": 0.5, "val_acc_noisy": 0.4, "noise_rate_real": float("nan")}
    assert null_where_unknown(row, "symmetric") == row
    assert null_where_unknown(row, "as-is") == {
        "train_acc_clean": None,
        "val_acc_noisy": 0.4,
        "noise_rate_real": None,
    }


def test_the_code_assumes_what_a_study_file_assumes() -> None:
    """`analysis` does not read the defaults of the study file; it repeats them."""
    least = {"epochs": 7, "batch_size": 32}
    complete = RecipeChoice(**least).model_dump()
    assert snippet(SETTING, 10, {"recipe": least}) == snippet(SETTING, 10, {"recipe": complete})


def test_the_code_names_what_it_leaves_out_of_the_recipe() -> None:
    recipe = {"epochs": 7, "batch_size": 32, "clip_norm": 1.0, "warmup_epochs": 2, "compile": True}
    lines = snippet(SETTING, 10, {"recipe": recipe}).splitlines()
    assert lines[-1] == '# the study\'s recipe also has {"clip_norm": 1.0, "warmup_epochs": 2}'
    steps = {"epochs": 7, "schedule": "step", "milestones": [0.5], "optimizer": "adamw"}
    code = snippet(SETTING, 10, {"recipe": {**steps, "x\nimport os": 1}})
    assert '"schedule": "step", "milestones": [0.5]' in code
    assert "CosineAnnealingLR" not in code
    ast.parse(code)
    assert "\nimport os" not in code
