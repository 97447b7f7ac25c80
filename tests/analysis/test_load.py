"""Folders from other programs, broken folders, and rows that would mislead."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import BEST_ARMS, Planted, default_cells, gaussian, write_study

from analysis.data.load import LoadError, load
from analysis.inference.summary import verdict_paragraph
from analysis.report.html import analyse_and_report
from analysis.verdict import analyse


def part_file(folder: Path, stage: str, table: str = "trials") -> Path:
    (path,) = (folder / table / stage).glob("*.parquet")
    return path


def rewrite(folder: Path, stage: str, change, table: str = "trials") -> None:
    path = part_file(folder, stage, table)
    frame = change(pq.read_table(path).to_pandas())
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)


def test_narrower_types_and_missing_columns_of_another_program(tmp_path):
    folder = write_study(tmp_path, default_cells(), study_yaml=False, arms=BEST_ARMS)
    expected = analyse(str(folder)).pooled.value.mean

    def narrow(frame: pd.DataFrame) -> pd.DataFrame:
        for column in frame.select_dtypes("float64"):
            frame[column] = frame[column].astype("float32")
        for column in ("classes", "seed", "epochs"):
            frame[column] = frame[column].astype("int32")
        frame["started_utc"] = frame["started_utc"].astype("datetime64[ns, UTC]")
        optional = ["git_dirty", "versions", "logit_std_init", "loss_params", "host", "rule"]
        return frame.drop(columns=optional).assign(extra=1)

    for stage in ("search", "sweep", "confirm"):
        rewrite(folder, stage, narrow)
    verdict, _ = analyse_and_report(str(folder))
    assert verdict.pooled.value.mean == pytest.approx(expected, abs=1e-4)


def test_order_of_rows_does_not_matter(tmp_path):
    folder = write_study(tmp_path, default_cells(), arms=BEST_ARMS)
    before = analyse(str(folder))
    for stage in ("search", "sweep", "confirm"):
        rewrite(folder, stage, lambda f: f.sample(frac=1, random_state=1))
    after = analyse(str(folder))
    assert after.pooled == before.pooled
    assert [c.epsilon_best for c in after.cells] == [c.epsilon_best for c in before.cells]


def test_diverged_networks_count_at_the_floor(tmp_path):
    """Leaving a diverged network out would flatter its arm."""
    folder = write_study(tmp_path, [Planted(response=gaussian(3.2))], arms=BEST_ARMS)

    def diverge(frame: pd.DataFrame) -> pd.DataFrame:
        pooled = (frame["arm"] == "analytic:activation") & frame["replicate"].isna()
        row = frame.index[pooled][0]
        frame.loc[row, "status"] = "diverged"
        frame.loc[row, ["test_acc", "val_acc_clean", "val_acc_noisy"]] = np.nan
        return frame

    rewrite(folder, "confirm", diverge)
    verdict, path = analyse_and_report(str(folder))
    assert verdict.cells[0].value["activation"].n == 5
    assert verdict.cells[0].value["activation"].mean > 0.1
    assert verdict.cells[0].verdict == "undecided"
    assert verdict.cells[0].arms["analytic:activation"].failed == 1
    assert "1 confirm network diverged" in verdict_paragraph(verdict)
    assert "confirm 1 of" in Path(path).read_text()


def test_test_accuracy_before_confirm_is_not_used_and_is_reported(tmp_path):
    folder = write_study(tmp_path, [Planted()])
    before = analyse(str(folder)).cells
    rewrite(folder, "search", lambda f: f.assign(test_acc=0.99))
    after = analyse(str(folder))
    assert after.cells == before
    assert any("read too early" in note for note in after.notes)


def test_a_repeated_network_counts_once(tmp_path):
    folder = write_study(tmp_path, [Planted()], arms=BEST_ARMS)
    rewrite(folder, "confirm", lambda f: pd.concat([f, f.iloc[:3]]))
    verdict = analyse(str(folder))
    assert any("repeat a network_id" in note for note in verdict.notes)
    assert verdict.cells[0].value["activation"].n == 5


def test_an_arm_that_lacks_a_seed_is_paired_on_the_rest(tmp_path):
    folder = write_study(tmp_path, [Planted()], arms=BEST_ARMS)
    rewrite(folder, "confirm", lambda f: f[~((f["arm"] == "best") & (f["seed"] == 200))])
    judged = analyse(str(folder)).cells[0]
    assert judged.value["activation"].n == 4
    assert judged.completeness.missing_confirm == 1
    assert "incomplete" in judged.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(test_acc=97.0), "accuracies are fractions"),
        (lambda f: f.assign(status="done"), "status = 'done': allowed is complete"),
        (lambda f: f.assign(schema_version=2), "schema_version"),
        (lambda f: f.assign(cell_id=None), "'cell_id' has empty values"),
        (lambda f: f.assign(stage="final"), "stage = 'final'"),
    ],
)
def test_wrong_rows_are_named_in_one_line(tmp_path, change, message):
    folder = write_study(tmp_path, [Planted()])
    rewrite(folder, "confirm", change)
    with pytest.raises(LoadError, match=message) as caught:
        analyse(str(folder))
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_named(tmp_path):
    folder = write_study(tmp_path, [Planted()])
    part_file(folder, "sweep").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(LoadError, match="cannot read trials"):
        analyse(str(folder))


def test_one_seed_and_equal_accuracies_do_not_crash(tmp_path):
    study = write_study(tmp_path / "a", [Planted()], sweep_seeds=1, confirm_seeds=1, arms=BEST_ARMS)
    verdict, _ = analyse_and_report(str(study))
    assert verdict.cells[0].verdict == "undecided"
    assert "one confirm seed" in verdict.cells[0].reason
    folder = write_study(tmp_path / "b", [Planted()], arms=BEST_ARMS)
    same = {"val_acc_clean": 0.9, "test_acc": 0.9}
    rewrite(folder, "confirm", lambda f: f.assign(**same))
    for stage in ("search", "sweep"):
        rewrite(folder, stage, lambda f: f.assign(val_acc_clean=0.9))
    verdict, _ = analyse_and_report(str(folder))
    assert verdict.cells[0].verdict in ("cannot_tell", "undecided")
    assert not verdict.cells[0].evidence
    assert verdict.cells[0].epsilon_best.high > verdict.cells[0].epsilon_best.low


def test_margin_and_config_are_read(tmp_path):
    study = load(str(write_study(tmp_path, [Planted()], margin=0.01)))
    assert study.margin == 0.01
    assert study.name == "planted"


def test_noise_rates_have_the_names_of_the_schema_and_of_the_reader(tmp_path):
    folder = write_study(tmp_path, [Planted(noise_rate=0.4)])
    rewrite(folder, "sweep", lambda f: f.assign(noise_rate_asked=np.nan, noise_rate_real=0.3996))
    trials = load(str(folder)).trials
    for column, name in (("asked", "requested"), ("real", "realised")):
        pd.testing.assert_series_equal(
            trials[f"noise_rate_{column}"], trials[f"noise_rate_{name}"], check_names=False
        )
    assert (trials["noise_rate_requested"].isna() == (trials["stage"] == "sweep")).all()
    assert trials["noise_rate"].unique() == pytest.approx([0.4])  # the realised rate, rounded
