"""Verdicts on planted truth: right sign, right pairing, right interval, honest refusals."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import Planted, default_cells, flat, gaussian, steep_left, write_study
from scipy import stats

from analysis.data.load import LoadError, load
from analysis.inference.agreement import judge
from analysis.inference.intervals import equivalence, mean_interval
from analysis.inference.summary import verdict_paragraph
from analysis.verdict import analyse


def analysed(folder, cells, **options):
    return analyse(str(write_study(folder, cells, **options)))


def only(verdict):
    (cell,) = verdict.cells
    return cell


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (Planted(response=gaussian(3.03)), "non_inferior"),
        (Planted(response=gaussian(4.5)), "inferior"),
        (Planted(response=flat()), "insensitive"),
    ],
)
def test_verdict_follows_the_planted_truth(tmp_path, cell, expected):
    judged = only(analysed(tmp_path, [cell], confirm_seeds=10, sd=0.002))
    assert judged.verdict == expected
    regret = judged.regret["activation"]
    assert regret.low - 0.002 <= cell.regret() <= regret.high + 0.002
    assert regret.n == 10


def test_regret_is_tuned_minus_analytic(tmp_path):
    """A tuned ε that is worse than the analytic one has negative regret."""
    cell = Planted(response=gaussian(3.03), tuned=5.0)
    assert cell.regret() < 0
    assert only(analysed(tmp_path, [cell])).regret["activation"].high < 0


def test_two_noisy_seeds_decide_nothing(tmp_path):
    cell = Planted(response=gaussian(3.3))
    verdict = analysed(tmp_path, [cell], confirm_seeds=2, sd=0.02, rng=3)
    assert only(verdict).verdict == "inconclusive"
    assert "Undecided" in verdict_paragraph(verdict)


def test_pairing_by_seed_removes_what_seeds_share(tmp_path):
    """A seed effect of 5 points must not widen the interval of the paired difference."""
    narrow = only(analysed(tmp_path / "a", [Planted()], seed_sd=0.0)).regret["activation"]
    wide = only(analysed(tmp_path / "b", [Planted()], seed_sd=0.02)).regret["activation"]
    spread = [r.high - r.low for r in (narrow, wide)]
    assert spread[1] < 3 * spread[0]


def test_interval_is_the_paired_t_interval(tmp_path):
    study = write_study(tmp_path, [Planted(response=steep_left())], confirm_seeds=6)
    trials = load(str(study)).stage("confirm").set_index("seed").sort_index()
    tuned = trials.loc[trials["arm"] == "tuned", "test_acc"]
    analytic = trials.loc[trials["arm"] == "analytic:activation", "test_acc"]
    expected = stats.ttest_rel(tuned, analytic).confidence_interval(0.90)
    regret = only(analyse(str(study))).regret["activation"]
    assert regret.low == pytest.approx(expected.low)
    assert regret.high == pytest.approx(expected.high)
    assert regret.mean == pytest.approx((tuned - analytic).mean())


@pytest.mark.parametrize("inside", [True, False])
def test_cross_entropy_is_read_from_the_cell_itself_or_the_sibling_cell(tmp_path, inside):
    judged = only(analysed(tmp_path, [Planted()], ce_in_own_cell=inside))
    assert judged.controls["ce"].n == 5
    assert judged.reference.val_acc_clean == pytest.approx(0.90, abs=0.02)
    assert (judged.reference.cell_id == judged.cell_id) is inside


def test_without_confirm_the_verdict_is_inconclusive_and_says_why(tmp_path):
    verdict = analysed(tmp_path, [Planted()], stages=("search", "sweep"))
    judged = only(verdict)
    assert judged.verdict == "inconclusive"
    assert judged.reason == "no analytic arm was run"
    assert judged.epsilon_best.value == pytest.approx(3.6, abs=0.2)
    assert "fewer than two paired seeds" in verdict_paragraph(verdict)


def test_without_sweep_there_is_a_verdict_but_no_curve(tmp_path):
    judged = only(analysed(tmp_path, [Planted()], stages=("confirm",), study_yaml=False))
    assert judged.epsilon_best is None
    assert judged.regret["activation"].n == 5


def test_margin_comes_from_the_study_file(tmp_path):
    cell = Planted(response=gaussian(4.0))
    strict = only(analysed(tmp_path / "a", [cell], sd=0.001))
    lenient = only(analysed(tmp_path / "b", [cell], sd=0.001, margin=0.2))
    assert (strict.verdict, lenient.verdict) == ("inferior", "non_inferior")
    assert lenient.margin == 0.2


def test_copies_of_a_cell_in_a_study_are_not_more_evidence(tmp_path):
    """Twenty copies, all with the same seeds: the pooled interval is that of one."""
    folder = write_study(tmp_path, [Planted()], stages=("confirm",))
    (path,) = (folder / "trials/confirm").glob("*.parquet")
    rows = pq.read_table(path).to_pandas()
    copies = [
        rows.assign(
            cell_id=rows["cell_id"].str.replace("0.4", f"0.{k}"),
            network_id=f"{k}-" + rows["network_id"],
            noise_rate_asked=k / 100,
        )
        for k in range(20, 40)
    ]
    pq.write_table(pa.Table.from_pandas(pd.concat(copies), preserve_index=False), path)
    verdict = analyse(str(folder))
    pooled, one = verdict.pooled.regret, verdict.cells[0].regret["activation"]
    assert verdict.pooled.cells == 20
    assert (pooled.n, one.n) == (5, 5)
    assert [pooled.mean, *pooled.ends] == pytest.approx([one.mean, *one.ends])


def test_verdict_json_holds_the_contract(tmp_path):
    analysed(tmp_path, default_cells())
    written = json.loads((tmp_path / "analysis/verdict.json").read_text())
    keys = """cell_id dataset classes noise_kind noise_rate model loss epsilon_analytic
    epsilon_tuned epsilon_best indifference regret margin verdict"""
    for cell in written["cells"]:
        assert set(keys.split()) <= set(cell)
        assert {"value", "low", "high", "on_edge"} <= set(cell["epsilon_best"])
    assert (tmp_path / "analysis/tables/cells.csv").read_text().count("\n") == 5


def test_tost_agrees_with_statsmodels():
    from statsmodels.stats.weightstats import ttost_paired

    rng = np.random.default_rng(1)
    x, y = rng.normal(0.9, 0.01, 8), rng.normal(0.901, 0.01, 8)
    assert equivalence(x - y, 0.01) == pytest.approx(ttost_paired(x, y, -0.01, 0.01)[0])


def test_one_seed_has_no_interval():
    one = mean_interval([0.01])
    assert (one.mean, one.low, one.high, one.n) == (0.01, None, None, 1)
    assert judge(one, None, 0.005)[0] == "inconclusive"


def test_bad_folders_are_refused_in_one_line(tmp_path):
    with pytest.raises(LoadError, match="no finished network"):
        load(str(tmp_path))
    write_study(tmp_path, [Planted()], margin=-1.0)
    with pytest.raises(LoadError, match=r"analysis\.margin = -1"):
        analyse(str(tmp_path))
