"""A bundle is read as the folder that it was made of, and is never changed."""

import json
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from planted import default_cells, write_study
from tests_support import logit_bias

from study.results.folder import StudyFolder
from study.results.object_store import is_object_store


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "planted"
    write_study(folder, default_cells()[:2])
    return folder


@pytest.fixture(scope="module")
def bundle(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("elsewhere") / "planted.bundle.zip"
    outcome = logit_bias("export", str(study), "--to", "bundle", "--output", str(path))
    assert outcome.returncode == 0, outcome.stderr
    return path


def test_folder_and_bundle_give_the_same_verdict_to_the_byte(study: Path, bundle: Path) -> None:
    before = bundle.read_bytes()
    assert logit_bias("analyse", str(study)).returncode == 0
    outcome = logit_bias("report", bundle.name, cwd=bundle.parent)
    assert outcome.returncode == 0, outcome.stderr
    results = bundle.parent / "planted.bundle" / "analysis"
    assert str(results / "report.html") in outcome.stdout
    expected = (study / "analysis/verdict.json").read_bytes()
    assert (results / "verdict.json").read_bytes() == expected
    with zipfile.ZipFile(bundle) as archive:
        assert archive.read("analysis/verdict.json") == expected
        assert archive.read("analysis/report.html").startswith(b"<!doctype html>")
    assert bundle.read_bytes() == before
    both = json.loads(logit_bias("compare", str(study), str(bundle), "--json").stdout)
    assert len({(s["value"], s["verdict"]) for s in both["studies"]}) == 1


def test_a_bundle_holds_the_rows_in_their_order(study: Path, bundle: Path) -> None:
    for table in ("trials", "epochs"):
        assert StudyFolder(str(bundle)).read(table).equals(StudyFolder(str(study)).read(table))
    again = bundle.with_name("again.zip")
    assert (
        logit_bias("export", str(bundle), "--to", "bundle", "--output", str(again)).returncode == 0
    )
    assert StudyFolder(str(again)).read("trials").equals(StudyFolder(str(study)).read("trials"))


def test_a_bundle_cannot_be_written_to(bundle: Path) -> None:
    assert not is_object_store(StudyFolder(str(bundle)).filesystem)  # else tried for a minute
    outcome = logit_bias("analyse", str(bundle), "--into", str(bundle))
    assert outcome.returncode == 2
    assert "a bundle cannot be written to" in outcome.stderr
    outcome = logit_bias("export", str(bundle), "--to", "bundle", "--output", str(bundle))
    assert outcome.returncode == 2
    assert "this file exists" in outcome.stderr


@pytest.mark.parametrize("member", ["study.yaml", "trials/confirm/compact-all.parquet"])
def test_a_changed_member_is_named(bundle: Path, tmp_path: Path, member: str) -> None:
    """Changed with a correct CRC, as a program that writes zip files does."""
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(tmp_path / "x.zip", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content + b" " if name == member else content)
    outcome = logit_bias("analyse", str(tmp_path / "x.zip"))
    assert outcome.returncode == 2
    assert f"{member} is damaged: its SHA-256 differs" in outcome.stderr


def test_what_is_no_bundle_is_one_line(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(bundle.read_bytes()[:-100])
    (tmp_path / "text.zip").write_text("hello")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    for name in ("cut.zip", "text.zip", "other.zip", "absent.zip"):
        for command in ("analyse", "status", "compare"):
            outcome = logit_bias(command, str(tmp_path / name))
            assert (outcome.returncode, outcome.stderr.count("\n")) == (2, 1), (command, name)
            assert name in outcome.stderr


def test_csv_files_hold_every_row_and_column(study: Path, tmp_path: Path) -> None:
    outcome = logit_bias("export", str(study), "--to", "csv", "--output", str(tmp_path / "csv"))
    assert outcome.returncode == 0, outcome.stderr
    rows = pq.read_table(study / "trials").to_pandas()
    text = pd.read_csv(tmp_path / "csv/trials.csv")
    assert set(StudyFolder(str(study)).read("trials").column_names) == set(text.columns)
    merged = rows.merge(text, on="network_id", suffixes=("", "_csv"))
    assert len(merged) == len(rows)
    for column in ("epsilon", "lr", "val_acc_noisy", "test_acc"):
        pd.testing.assert_series_equal(
            merged[column], merged[f"{column}_csv"], check_names=False, rtol=0, atol=0
        )
    again = logit_bias("export", str(study), "--to", "csv", "--output", str(tmp_path / "csv"))
    assert (again.returncode, "this file exists" in again.stderr) == (2, True)
