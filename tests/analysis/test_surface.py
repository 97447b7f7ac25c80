"""What the surface makes of a measured difference, and of an ε at which a loss fails."""

import numpy as np
import pytest
from planted import BEST_ARMS, Planted, change_rows, gaussian, write_study

from analysis.response.line import RateCurve
from analysis.verdict import compute


def value_of(folder):
    (judged,) = compute(str(folder)).judged
    return judged, judged.verdict.value["activation"]


@pytest.mark.parametrize("challenger", [2.5, 3.6, 5.0])
def test_a_challenger_that_loses_shows_that_analytic_is_best(tmp_path, challenger):
    """Planted: the best ε is the analytic one; the challenger costs 4 to 37 points."""
    cell = Planted(response=gaussian(3.03), tuned=challenger)
    options = {"arms": BEST_ARMS, "confirm_seeds": 10, "sd": 0.002, "sweep_seeds": 2}
    judged, value = value_of(write_study(tmp_path, [cell], **options))
    assert value.leads
    assert value.measured.high < -0.03
    assert 0 <= value.mean < 0.003
    assert -0.001 < value.low < value.high < 0.008
    assert judged.values["activation"].slope < 0.1
    zero = judged.verdict.controls["zero"]  # measured from the analytic arm
    assert zero.mean == pytest.approx(float(np.subtract(*gaussian(3.03)([3.03, 0.0]))), abs=0.02)


def test_the_value_follows_what_is_measured_far_from_the_surface(tmp_path):
    """On the test set analytic ε loses 3 points that the validation labels do not show."""
    cell = Planted(response=gaussian(3.6))
    options = {"arms": BEST_ARMS, "confirm_seeds": 12, "sd": 0.003, "sweep_seeds": 2}
    folder = write_study(tmp_path, [cell], **options)
    change_rows(
        folder,
        lambda rows: rows["arm"].eq("analytic:activation") & rows["replicate"].isna(),
        lambda rows: rows.assign(test_acc=rows["test_acc"] - 0.03),
    )
    _, value = value_of(folder)
    assert value.mean == pytest.approx(cell.value() + 0.03, abs=0.006)


def test_seeds_that_fail_are_not_overruled_by_the_surface(tmp_path):
    """Analytic ε fails in 2 of 12 seeds by 30 points; the surface knows nothing of it."""
    cell = Planted(response=gaussian(3.1))
    options = {"arms": BEST_ARMS, "confirm_seeds": 12, "sd": 0.003, "sweep_seeds": 2}
    folder = write_study(tmp_path, [cell], **options)
    change_rows(
        folder,
        lambda rows: (
            rows["arm"].eq("analytic:activation")
            & rows["replicate"].isna()
            & rows["seed"].isin(sorted(rows.loc[rows["replicate"].isna(), "seed"].unique())[:2])
        ),
        lambda rows: rows.assign(test_acc=rows["test_acc"] - 0.3),
    )
    judged, value = value_of(folder)
    assert not judged.verdict.verdict.agrees
    assert value.high > 0.05


def test_curve_over_the_learning_rate_stays_near_its_networks():
    """Three learning rates of three networks each: no room for 60 points between them."""
    rates = np.repeat([0.1, 0.5, 0.9], 3)
    accuracy = np.array([10.0, 9, 11, 17, 16, 18, 11, 10, 12])
    curve = RateCurve(rates, accuracy, np.ones(9))
    drawn = curve.draw(np.linspace(0, 1, 41), 400, np.random.default_rng(0))
    assert np.quantile(drawn.max(axis=0), 0.95) < 26
    at = curve.draw(np.array([0.5]), 400, np.random.default_rng(0))
    assert at.mean() == pytest.approx(17, abs=1)
    assert at.std() < 1


def test_a_second_rule_that_is_best_is_the_comparator_of_the_first(tmp_path):
    """`gradient` (4.0) is best, so `best` is a poor challenger; `activation` (3.03) loses to it."""
    cell = Planted(
        response=gaussian(4.0), tuned=6.5, analytic={"activation": 3.03, "gradient": 4.0}
    )
    options = {"arms": BEST_ARMS, "confirm_seeds": 10, "sd": 0.003, "sweep_seeds": 2}
    judged, value = value_of(write_study(tmp_path, [cell], **options))
    assert judged.verdict.verdict == "inferior"
    assert value.mean == pytest.approx(cell.value("activation"), abs=0.01)
    second = judged.verdict.value["gradient"]
    assert second.leads
    assert -0.01 < second.low < 0 < second.mean < 0.01  # planted: 0
