"""Two folders of one study become one, or are refused."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from growing import BEST, changed, write_folder
from tests_support import logit_bias

from study.results.folder import StudyFolder

NOISES = [{"kind": "symmetric", "rate": 0.2}, {"kind": "symmetric", "rate": 0.4}]


def ids(folder: Path, table: str = "trials") -> list[str]:
    return sorted(StudyFolder.at(str(folder)).read(table)["network_id"].to_pylist())


def test_cells_and_replicates_of_two_folders_are_one_study(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "a", changed(BEST, grid__noise=NOISES[:1], search__replicates=3))
    other = write_folder(tmp_path / "b", changed(BEST, grid__noise=NOISES[1:]))
    outcome = logit_bias("merge", str(one), str(other), "--output", str(tmp_path / "c/best"))
    assert outcome.returncode == 0, outcome.stderr
    both = [*ids(one), *ids(other)]
    assert ids(tmp_path / "c/best") == sorted(both)
    assert len(ids(tmp_path / "c/best", "epochs")) == 4 * len(both)
    file = yaml.safe_load((tmp_path / "c/best/study.yaml").read_bytes())
    assert (file["search"]["replicates"], file["storage"]) == (3, str(tmp_path / "c"))
    # The third replicate of the second noise is planned and not trained: 12 + 6 networks.
    status = logit_bias("status", str(tmp_path / "c/best")).stdout
    assert "search: 60 of 72 networks" in status
    assert "18 are to be trained" in outcome.stdout
    plan = logit_bias("plan", str(tmp_path / "c/best/study.yaml"))
    assert plan.returncode == 0, plan.stderr
    assert f"{len(both)} already in {tmp_path / 'c/best'}" in plan.stdout
    assert "differs from the study" not in plan.stdout


def test_searches_of_two_folders_are_merged_before_they_are_confirmed(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "a", changed(BEST, search__replicates=3))
    other = write_folder(tmp_path / "b", BEST)
    command = ["merge", str(one), str(other), "--output", str(tmp_path / "c/best")]
    outcome = logit_bias(*command)
    assert outcome.returncode == 2
    assert "was confirmed at" in outcome.stderr
    assert "merge such folders before their confirm stage" in outcome.stderr
    shutil.rmtree(other / "trials/confirm")
    outcome = logit_bias(*command)
    assert outcome.returncode == 0, outcome.stderr
    assert ids(tmp_path / "c/best") == ids(one)


def test_an_unfinished_folder_and_its_continuation_keep_the_fuller_file(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "a", BEST, at_most=4)
    other = write_folder(tmp_path / "b", changed(BEST, confirm__seeds=3))
    content = (other / "study.yaml").read_text()
    (other / "study.yaml").write_text("# my study\n" + content)
    outcome = logit_bias("merge", str(one), str(other), "--output", str(tmp_path / "best"))
    assert outcome.returncode == 0, outcome.stderr
    assert f"{len(ids(one))} were in more than one folder" in outcome.stdout
    assert ids(tmp_path / "best") == ids(other)
    text = (tmp_path / "best/study.yaml").read_text()
    assert text.startswith("# my study\n")
    assert yaml.safe_load(text)["storage"] == str(tmp_path)


def test_a_network_with_two_results_is_refused(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "a", BEST)
    other = Path(shutil.copytree(one, tmp_path / "b/best"))
    path = next((other / "trials/sweep").glob("part-*"))
    table = pq.read_table(path)
    index = table.schema.get_field_index("val_acc_clean")
    column = pc.add(table["val_acc_clean"], 1e-12)
    pq.write_table(table.set_column(index, "val_acc_clean", column), path)
    outcome = logit_bias("merge", str(one), str(other), "--output", str(tmp_path / "c/best"))
    assert outcome.returncode == 2
    assert "val_acc_clean is" in outcome.stderr
    assert table["network_id"][0].as_py() in outcome.stderr
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"recipe__epochs": 2}, "recipe.epochs (was 2, is 1)"),
        ({"name": "other"}, "different studies: best, other"),
        ({"search__networks_per_cell": 4}, "began with search.networks_per_cell = 4"),
        ({"search__sampler": "qmc"}, "search.sampler (was qmc, is random)"),
    ],
)
def test_different_studies_are_not_merged(
    changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    one = write_folder(tmp_path / "a", BEST)
    other = write_folder(tmp_path / "b", changed(BEST, **changes))
    outcome = logit_bias("merge", str(one), str(other), "--output", str(tmp_path / "c/best"))
    assert outcome.returncode == 2
    assert expected in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not (tmp_path / "c").exists()


def test_searches_that_parted_are_not_merged(tmp_path: Path) -> None:
    """One machine rounds differently: from then on the sampler that learns goes its own way."""
    study = changed(BEST, search__sampler="tpe", search__replicates=1)
    study = changed(study, search__networks_per_cell=8)
    one = write_folder(tmp_path / "a", study)
    other = write_folder(tmp_path / "b", changed(study, search__networks_per_cell=24))
    outcome = logit_bias("merge", str(one), str(other), "--output", str(tmp_path / "c/best"))
    assert outcome.returncode == 2
    assert "these are different searches" in outcome.stderr


def test_the_output_is_a_new_folder_of_the_studys_name(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "a", BEST, at_most=1)
    other = write_folder(tmp_path / "b", BEST, at_most=2)
    wrong = logit_bias("merge", str(one), str(other), "--output", str(tmp_path / "c"))
    assert (wrong.returncode, "must end in /best" in wrong.stderr) == (2, True)
    taken = logit_bias("merge", str(one), str(other), "--output", str(other))
    assert (taken.returncode, "there is a study already" in taken.stderr) == (2, True)
    alone = logit_bias("merge", str(one), "--output", str(tmp_path / "c/best"))
    assert (alone.returncode, "two or more" in alone.stderr) == (2, True)
