"""Verdicts on planted truth: right sign, right pairing, right interval, honest refusals."""

import json

import numpy as np
import pytest
from planted import (
    BEST_ARMS,
    Planted,
    change_rows,
    default_cells,
    flat,
    gaussian,
    steep_left,
    symmetric,
    write_study,
)
from scipy import stats

from analysis.data.load import LoadError, load
from analysis.inference.agreement import judge
from analysis.inference.intervals import equivalence, mean_interval
from analysis.inference.records import Cost, VarianceShares
from analysis.inference.summary import verdict_paragraph
from analysis.verdict import analyse


def analysed(folder, cells, **options):
    return analyse(str(write_study(folder, cells, **options)))


def only(verdict):
    (cell,) = verdict.cells
    return cell


def sure(**options):
    return {"arms": BEST_ARMS, "confirm_seeds": 10, "sd": 0.002, "sweep_seeds": 2, **options}


def falling(e):
    """ε = 0 is best; analytic ε (3.03) costs 5 points."""
    return 0.93 - 0.05 * np.asarray(e, dtype=float) / 3.03


@pytest.mark.parametrize(
    ("cell", "expected", "evidence"),
    [
        (Planted(response=gaussian(3.03), tuned=3.3), "equivalent", True),
        (Planted(response=gaussian(4.5)), "inferior", True),
        (Planted(response=falling), "inferior", False),
    ],
)
def test_verdict_follows_the_planted_truth(tmp_path, cell, expected, evidence):
    verdict = analysed(tmp_path, [cell], **sure())
    judged = only(verdict)
    assert judged.verdict == verdict.pooled.verdict == expected
    assert judged.evidence is evidence
    value = judged.value["activation"]
    assert value.low - 0.002 <= cell.value() <= value.high + 0.002
    assert value.n == 10


def test_where_epsilon_does_nothing_nothing_agrees(tmp_path):
    """The three confirmed arms are equivalent, with or without a surface: the cell cannot tell."""
    cells = [Planted(response=flat(), noise_rate=r) for r in (0.0, 0.4)]
    verdict = analysed(tmp_path / "a", cells, **sure())
    assert verdict.pooled.verdict == "cannot_tell"
    assert verdict.pooled.evidence_cells == 0
    bare = analysed(tmp_path / "b", cells, **sure(stages=("confirm",)))
    assert [c.verdict for c in bare.cells] == ["cannot_tell"] * 2
    assert bare.pooled.verdict == "cannot_tell"


def test_analytic_is_judged_before_the_cell_cannot_tell(tmp_path):
    """Six cells in which analytic ε loses 5 points and ε = 0 is best, two in which it is right."""
    bad = [Planted(response=falling, noise_rate=r) for r in np.linspace(0, 0.5, 6)]
    good = [Planted(response=gaussian(3.03), noise_rate=r) for r in (0.6, 0.7)]
    verdict = analysed(tmp_path, [*bad, *good], **sure(sweep_points=5, search=12))
    assert verdict.pooled.verdict == "inferior"
    assert verdict.pooled.counts["cannot_tell"] == 0
    assert verdict.pooled.evidence_cells == 2


def test_agreement_needs_a_cell_in_which_zero_is_shown_inferior(tmp_path):
    """ε does little: zero costs 0.3 points, less than the margin."""
    cell = Planted(response=symmetric(3.03, width=17.5))
    judged = analysed(tmp_path, [cell], **sure())
    assert judged.pooled.evidence_cells == 0
    assert not judged.pooled.verdict.agrees


def test_value_is_best_minus_analytic(tmp_path):
    """A best point that is worse than the analytic one: what is measured is negative."""
    cell = Planted(response=gaussian(3.03), tuned=5.0)
    assert only(analysed(tmp_path, [cell], **sure())).value["activation"].measured.high < 0


def test_equal_epsilon_has_no_value(tmp_path):
    """Best and analytic ε are one: the learning rate's difference is not the value of ε."""
    cell = Planted(response=gaussian(3.03), tuned=3.03)
    folder = write_study(tmp_path, [cell], **sure())
    change_rows(
        folder, lambda f: f["arm"] == "best", lambda f: f.assign(test_acc=f["test_acc"] - 0.01)
    )
    verdict = analyse(str(folder))
    judged = only(verdict)
    value = judged.value["activation"]
    assert value.same_epsilon
    assert (value.mean, value.low, value.measured.mean) == (None, None, None)
    assert judged.verdict == "undecided"
    assert "the same ε" in judged.reason
    assert judged.recovered == {}
    assert verdict.pooled.reason == judged.reason
    assert verdict.pooled.value.mean is None


def test_two_noisy_seeds_decide_nothing(tmp_path):
    cell = Planted(response=gaussian(3.3))
    verdict = analysed(tmp_path, [cell], arms=BEST_ARMS, confirm_seeds=2, sd=0.02, rng=3)
    assert only(verdict).verdict == "undecided"
    assert "Undecided" in verdict_paragraph(verdict)


def test_pairing_by_seed_removes_what_seeds_share(tmp_path):
    """A seed effect of 5 points must not widen the interval of the paired difference."""
    options = {"arms": BEST_ARMS, "sweep_seeds": 2}
    narrow, wide = (
        only(analysed(tmp_path / str(sd), [Planted()], seed_sd=sd, **options)).value["activation"]
        for sd in (0.0, 0.02)
    )
    spread = [v.measured.high - v.measured.low for v in (narrow, wide)]
    assert spread[1] < 3 * spread[0]


def test_interval_is_the_paired_t_interval(tmp_path):
    study = write_study(tmp_path, [Planted(response=steep_left())], confirm_seeds=6, arms=BEST_ARMS)
    trials = load(str(study)).stage("confirm")
    trials = trials[trials["replicate"].isna()].set_index("seed").sort_index()
    best = trials.loc[trials["arm"] == "best", "test_acc"]
    analytic = trials.loc[trials["arm"] == "analytic:activation", "test_acc"]
    expected = stats.ttest_rel(best, analytic).confidence_interval(0.90)
    value = only(analyse(str(study))).value["activation"]
    assert value.measured.low == pytest.approx(expected.low)
    assert value.measured.high == pytest.approx(expected.high)
    assert value.measured.mean == pytest.approx((best - analytic).mean())
    assert value.mean == pytest.approx(value.measured.mean + value.adjustment)


def test_an_older_study_answers_the_procedure_over_one_search(tmp_path):
    study = write_study(tmp_path, [Planted(response=steep_left())], confirm_seeds=6)
    trials = load(str(study)).stage("confirm").set_index("seed").sort_index()
    tuned = trials.loc[trials["arm"] == "tuned", "test_acc"]
    analytic = trials.loc[trials["arm"] == "analytic:activation", "test_acc"]
    expected = stats.ttest_rel(tuned, analytic).confidence_interval(0.90)
    verdict = analyse(str(study))
    judged = only(verdict)
    result = judged.procedure["activation"]
    assert (result.low, result.high, result.n) == (None, None, 1)
    assert [*result.over_seeds.ends] == pytest.approx([expected.low, expected.high])
    assert result.mean == pytest.approx((tuned - analytic).mean())
    assert result.verdict == judged.verdict == verdict.pooled.verdict == "undecided"
    assert judged.value == {}
    text = verdict_paragraph(verdict)
    assert "no arm best" in text
    assert "one search: an interval over searches needs search.replicates ≥ 3" in text


@pytest.mark.parametrize("inside", [True, False])
def test_cross_entropy_is_read_from_the_cell_itself_or_the_sibling_cell(tmp_path, inside):
    judged = only(analysed(tmp_path, [Planted()], ce_in_own_cell=inside))
    assert judged.controls["ce"].n == 5
    assert judged.reference.val_acc_clean == pytest.approx(0.90, abs=0.02)
    assert (judged.reference.cell_id == judged.cell_id) is inside


def test_without_confirm_the_verdict_is_undecided_and_says_why(tmp_path):
    verdict = analysed(tmp_path, [Planted()], stages=("search", "sweep"))
    judged = only(verdict)
    assert judged.verdict == "undecided"
    assert judged.reason == "no analytic arm was run"
    assert judged.epsilon_best.value == pytest.approx(3.6, abs=0.2)
    assert "no paired confirm networks" in verdict_paragraph(verdict)


def test_without_search_and_sweep_there_is_a_value_without_surface(tmp_path):
    verdict = analysed(tmp_path, [Planted()], stages=("confirm",), study_yaml=False, arms=BEST_ARMS)
    judged = only(verdict)
    assert judged.epsilon_best is None
    assert judged.value["activation"].n == 5
    assert judged.value["activation"].shares.surface is None
    assert any("may fall short of the best" in note for note in verdict.notes)


def test_margin_comes_from_the_study_file(tmp_path):
    cell = Planted(response=gaussian(4.0))
    strict = only(analysed(tmp_path / "a", [cell], **sure()))
    lenient = only(analysed(tmp_path / "b", [cell], **sure(margin=0.2)))
    assert (strict.verdict, lenient.verdict) == ("inferior", "equivalent")
    assert lenient.margin == 0.2


def test_verdict_json_holds_the_contract(tmp_path):
    analysed(tmp_path, default_cells(), arms=BEST_ARMS)
    written = json.loads((tmp_path / "analysis/verdict.json").read_text())
    assert written["schema_version"] == 3
    keys = """cell_id dataset classes noise_kind noise_rate model loss epsilon_analytic
    epsilon_tuned epsilon_best indifference value procedure recovered arms choices evidence
    completeness margin verdict"""
    for cell in written["cells"]:
        assert set(keys.split()) <= set(cell)
        assert {"value", "low", "high", "on_edge"} <= set(cell["epsilon_best"])
        assert cell["arms"]["best"]["lr"] == 0.1
        assert len(cell["choices"]["tuned"]) == 4
    assert (tmp_path / "analysis/tables/cells.csv").read_text().count("\n") == 5


def test_tost_agrees_with_statsmodels():
    from statsmodels.stats.weightstats import ttost_paired

    rng = np.random.default_rng(1)
    x, y = rng.normal(0.9, 0.01, 8), rng.normal(0.901, 0.01, 8)
    assert equivalence(x - y, 0.01) == pytest.approx(ttost_paired(x, y, -0.01, 0.01)[0])


def test_one_seed_has_no_interval():
    one = mean_interval([0.01])
    assert (one.mean, one.low, one.high, one.n) == (0.01, None, None, 1)
    none = VarianceShares(None, 1.0, None, None)
    value = Cost(0.01, None, None, 1, one, 0.0, None, none, False, False, None, None)
    assert judge(value, None, None, 0.005)[0] == "undecided"


def test_bad_folders_are_refused_in_one_line(tmp_path):
    with pytest.raises(LoadError, match="no finished network"):
        load(str(tmp_path))
    write_study(tmp_path, [Planted()], margin=-1.0)
    with pytest.raises(LoadError, match=r"analysis\.margin = -1"):
        analyse(str(tmp_path))
