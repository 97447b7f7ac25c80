"""Nothing that is missing is silent."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from planted import BEST_ARMS, Planted, change_rows, default_cells, gaussian, write_study

from analysis.inference.summary import verdict_paragraph
from analysis.verdict import analyse, compute


@pytest.fixture
def folder(tmp_path):
    cells = [Planted(response=gaussian(3.1))]
    return write_study(tmp_path, cells, arms=BEST_ARMS, plan=True, search=16, sweep_seeds=2)


def pooled_arm(arm: str, seeds: int):
    """Rows of the first seeds of an arm on the common seeds."""
    return lambda f: (f["arm"] == arm) & f["replicate"].isna() & (f["seed"] < 200 + seeds)


def assert_says_once(text: str) -> None:
    """What is missing stands in the first sentence and nowhere else."""
    assert text.count("not finished") == text.count("confirm networks are missing") == 1
    assert "Incomplete" not in text


def test_a_complete_study_says_nothing(folder):
    verdict = analyse(str(folder))
    assert verdict.pooled.completeness.is_complete
    assert verdict.pooled.completeness.sentence == ""
    assert "ncomplete" not in verdict_paragraph(verdict)


def test_deleted_networks_refuse_the_verdict(folder):
    change_rows(folder, pooled_arm("analytic:activation", 4))
    verdict = analyse(str(folder))
    text = verdict_paragraph(verdict)
    assert verdict.pooled.verdict == "undecided"
    assert verdict.pooled.refused == "not finished: 4 of 54 confirm networks are missing"
    assert text.startswith(
        "No verdict (mae on digit-pairs: 1 cell, rule activation): the study is not finished; "
        "4 of 54 confirm networks are missing; missing pairs: analytic:activation 4. So far, "
    )
    assert_says_once(text)
    (cell,) = verdict.cells
    assert cell.completeness.missing_pairs == {"analytic:activation": 4}
    assert cell.arms["analytic:activation"].missing == 4
    assert "incomplete" in cell.reason


def test_without_a_plan_unequal_seeds_are_counted(folder):
    (folder / "plan.json").unlink()
    change_rows(folder, pooled_arm("analytic:activation", 2))
    verdict = analyse(str(folder))
    assert verdict.pooled.refused is None
    assert verdict.pooled.value.n == 3
    assert "Incomplete: 2 confirm networks are missing" in verdict_paragraph(verdict)


def test_accuracies_that_are_not_finite_count_as_missing(folder):
    change_rows(folder, pooled_arm("best", 2), lambda f: f.assign(test_acc=np.nan))
    verdict = analyse(str(folder))
    (cell,) = verdict.cells
    assert cell.completeness.not_finite == 2
    assert cell.arms["best"].not_finite == 2
    assert cell.value["activation"].n == 3
    text = verdict_paragraph(verdict)
    assert "(incomplete)" in text
    assert "2 confirm networks without a test accuracy" in text


def test_a_half_run_study_is_refused(folder):
    change_rows(folder, lambda f: f["seed"] >= 0)
    verdict = analyse(str(folder))
    assert verdict.pooled.refused == "not finished: 54 of 54 confirm networks are missing"
    assert_says_once(verdict_paragraph(verdict))


def test_a_refused_verdict_names_the_value_so_far(folder):
    change_rows(folder, pooled_arm("analytic:activation", 2))
    verdict = analyse(str(folder))
    text = verdict_paragraph(verdict)
    assert "So far, on 3 fresh paired seeds, test accuracy at the best ε minus" in text
    assert "the interval" not in text  # which would be a verdict
    assert_says_once(text)


def test_missing_search_networks_are_counted(folder):
    (path,) = (folder / "trials/search").glob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.slice(3), path)
    verdict = analyse(str(folder))
    assert "3 of 64 search networks are missing" in verdict_paragraph(verdict)


def test_what_n_seeds_cannot_exclude_is_said(folder):
    verdict = analyse(str(folder))
    assert "With 5 seeds, failures in up to 45 % of runs cannot be excluded" in verdict_paragraph(
        verdict
    )
    (cell,) = verdict.cells
    assert cell.arms["best"].failure_bound == pytest.approx(1 - 0.05 ** (1 / 5))


def test_collapses_are_counted(folder):
    change_rows(folder, pooled_arm("analytic:activation", 1), lambda f: f.assign(test_acc=0.05))
    (cell,) = analyse(str(folder)).cells
    arm = cell.arms["analytic:activation"]
    assert (arm.failed, arm.failure_rate) == (1, 0.2)
    assert arm.failure_bound > 0.6


def test_only_the_confirm_rows_have_what_is_right(tmp_path):
    folder = write_study(tmp_path, default_cells()[2:], arms=BEST_ARMS, test_examples=100)
    analysis = compute(str(folder))
    study = analysis.study
    assert "test_correct" not in study.trials
    confirm = study.stage("confirm")
    correct = study.test_correct(confirm)
    assert set(correct) == set(confirm.index)
    right = np.unpackbits(np.frombuffer(correct[confirm.index[0]], dtype=np.uint8)).sum()
    assert right / 100 == pytest.approx(confirm["test_acc"].iloc[0])
    assert analysis.verdict.notes == []
    assert analysis.verdict.pooled.value.shares.test_examples is not None


def test_a_cell_without_confirm_networks_is_missed_without_a_plan(tmp_path):
    cells = [Planted(response=gaussian(3.1), noise_rate=r) for r in (0.0, 0.4)]
    folder = write_study(tmp_path, cells, arms=BEST_ARMS, search=16, sweep_seeds=2)
    change_rows(folder, lambda f: f["cell_id"].str.contains("0.4"))
    verdict = analyse(str(folder))
    text = verdict_paragraph(verdict)
    assert "(incomplete)" in text
    assert verdict.pooled.completeness.missing_confirm > 0
    (empty,) = [cell for cell in verdict.cells if cell.noise_rate == 0.4]
    assert "no arm best" not in empty.reason


def test_duplicates_do_not_stand_for_missing_networks(folder):
    rows = pooled_arm("analytic:activation", 2)
    (path,) = (folder / "trials/confirm").glob("*.parquet")
    frame = pq.read_table(path).to_pandas()
    others = frame[pooled_arm("analytic:activation", 4)(frame) & ~rows(frame)]
    change_rows(folder, rows, lambda _: others.assign(network_id=others["network_id"] + "-again"))
    verdict = analyse(str(folder))
    assert verdict.pooled.refused == "not finished: 2 of 54 confirm networks are missing"


def test_missing_search_networks_are_in_the_answer(folder):
    (path,) = (folder / "trials/search").glob("*.parquet")
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows // 2), path)
    text = verdict_paragraph(analyse(str(folder)))
    assert text.split(":")[0].endswith("(incomplete) (mae on digit-pairs")
    assert "search networks are missing" in text


def test_an_inferior_cell_with_few_seeds_keeps_the_mean_from_agreeing(tmp_path):
    """Four cells agree; a fifth has 3 of 12 seeds and loses 14 points."""
    good = [Planted(response=gaussian(3.1), noise_rate=0.1 * k) for k in range(4)]
    bad = Planted(response=gaussian(4.5), noise_rate=0.7)
    options = {"arms": BEST_ARMS, "confirm_seeds": 12, "sd": 0.001, "sweep_seeds": 2}
    folder = write_study(tmp_path, [*good, bad], search=16, **options)
    last = [200 + k for k in range(3, 12)]
    few = lambda f: f["cell_id"].eq(bad.cell_id) & f["seed"].isin(last)  # noqa: E731
    change_rows(folder, lambda f: few(f) & f["replicate"].isna())
    verdict = analyse(str(folder))
    assert verdict.pooled.value.left_out == [bad.cell_id]
    assert verdict.pooled.verdict == "undecided"
    assert "inferior in 1 cell with too few seeds" in verdict.pooled.reason
    assert verdict.pooled.scope.cells == 4
