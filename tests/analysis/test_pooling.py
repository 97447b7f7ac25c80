"""Pooled claims: dependence is respected, corrections are applied, trends have the right sign."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from planted import Planted, cell_verdict, default_cells, gaussian, write_study
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from analysis.inference.pooling import noise_slopes, random_effects, seed_mean
from analysis.inference.power import (
    equivalence_power,
    non_inferiority_power,
    pilot_sd,
    power_table,
    seeds_needed,
)
from analysis.inference.records import CellVerdict
from analysis.inference.summary import verdict_paragraph
from analysis.verdict import analyse, compute


@pytest.mark.parametrize("seed", range(4))
def test_random_effects_agree_with_statsmodels(seed):
    rng = np.random.default_rng(seed)
    effects, variances = rng.normal(0, 3, 6), rng.uniform(0.1, 0.5, 6)
    ours = random_effects(effects, variances, confidence=0.95)
    theirs = combine_effects(effects, variances, method_re="iterated", use_t=True, atol=1e-12)
    assert ours.mean == pytest.approx(theirs.mean_effect_re, rel=1e-6)
    assert ours.tau**2 == pytest.approx(theirs.tau2, rel=1e-5)
    half = (ours.high - ours.low) / 2
    assert half >= 2.57 * theirs.sd_eff_w_re_hksj * 0.999  # t(5); never below the plain HKSJ


def test_equal_effects_do_not_shrink_the_interval_to_nothing():
    pooled = random_effects(np.array([0.01, 0.01]), np.array([1e-4, 1e-4]))
    assert pooled.high - pooled.low > 0.05


def test_variance_between_datasets_solves_paule_and_mandels_equation():
    """At the scale of accuracies, where statsmodels' iteration may stop at τ² = 0."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        effects, variances = rng.normal(0, 0.02, 6), rng.uniform(1e-7, 1e-5, 6)
        tau2 = random_effects(effects, variances).tau ** 2
        w = 1 / (variances + tau2)
        q = (w * (effects - (w * effects).sum() / w.sum()) ** 2).sum()
        assert tau2 > 0
        assert q == pytest.approx(5, rel=1e-9)


def pairs(values: np.ndarray) -> pd.DataFrame:
    seeds, cells = values.shape
    return pd.DataFrame(
        {
            "cell_id": np.repeat([f"c{i}" for i in range(cells)], seeds),
            "arm": "analytic:activation",
            "seed": np.tile(np.arange(seeds), cells),
            "regret": values.T.ravel(),
        }
    )


def named(cells: int) -> list[CellVerdict]:
    return [cell_verdict(f"c{i}") for i in range(cells)]


def test_copies_of_a_cell_add_no_evidence():
    values = np.random.default_rng(0).normal(0, 0.01, (5, 1))
    one, many = (seed_mean(named(k), pairs(np.tile(values, (1, k)))) for k in (1, 20))
    assert (many.low, many.high, many.n) == (pytest.approx(one.low), pytest.approx(one.high), 5)


def test_cells_without_shared_seeds_use_satterthwaite():
    frame = pairs(np.random.default_rng(0).normal(0, 0.01, (5, 2)))
    frame.loc[frame["cell_id"] == "c1", "seed"] += 100
    pooled = seed_mean(named(2), frame)
    expected = stats.ttest_ind(*(g["regret"] for _, g in frame.groupby("cell_id")), equal_var=False)
    half = stats.t.ppf(0.95, expected.df) * np.sqrt(
        frame.groupby("cell_id")["regret"].var().sum() / 5
    )
    assert pooled.high - pooled.mean == pytest.approx(half / 2)
    assert pooled.n == 5


def test_holm_is_stricter_than_each_cell_alone(tmp_path):
    cells = [Planted(response=gaussian(3.03), noise_rate=r) for r in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    verdict = analyse(str(write_study(tmp_path, cells, confirm_seeds=4, sd=0.0027, rng=5)))
    alone = [c.cell_id for c in verdict.cells if c.verdict == "non_inferior"]
    assert set(verdict.pooled.non_inferior_cells_holm) < set(alone)


def test_margin_curve_ends_where_the_interval_does(tmp_path):
    analysis = compute(str(write_study(tmp_path, default_cells())))
    curve = analysis.tables["margin_curve"].set_index("margin")["pooled"]
    high = analysis.verdict.pooled.regret.high
    assert curve.index[0] < high < curve.index[-1]
    assert (curve[curve.index > high] == "non_inferior").all()
    assert (curve[curve.index < high] != "non_inferior").all()


def test_a_bad_cell_is_named_beside_a_good_average(tmp_path):
    good = [Planted(response=gaussian(3.03), noise_rate=r) for r in np.linspace(0, 0.6, 13)]
    bad = Planted(response=gaussian(3.55), noise_rate=0.7, loss="gce")
    assert bad.regret() > 0.03
    verdict = analyse(str(write_study(tmp_path, [*good, bad], sd=0.001)))
    assert verdict.pooled.verdict == "non_inferior"
    assert "on average, but not in every cell" in verdict_paragraph(verdict)


@pytest.mark.parametrize(("shift", "equivalent"), [(0.0, True), (3.0, False)])
def test_slope_of_best_epsilon_against_noise(tmp_path, shift, equivalent):
    """The best ε moves by `shift` per unit noise rate."""
    rates = (0.0, 0.2, 0.4, 0.6)
    cells = [Planted(response=gaussian(3 + shift * r), noise_rate=r) for r in rates]
    verdict = analyse(str(write_study(tmp_path, cells, sweep_seeds=10)))
    (slope,) = verdict.noise_slopes
    assert slope.low <= shift <= slope.high
    assert slope.equivalent is equivalent


def test_slope_needs_two_noise_rates():
    cells = [cell_verdict("a", noise_rate=0.4), cell_verdict("b", noise_rate=0.0)]
    assert noise_slopes(cells[:1], {"a": np.zeros(10)}) == []
    (slope,) = noise_slopes(cells, {"a": np.full(10, 2.0), "b": np.full(10, 1.6)})
    assert slope.slope == pytest.approx(1.0)


def test_value_agreement_names_bias_and_limits(tmp_path):
    """Best ε is 1 above analytic everywhere."""
    cells = [Planted(response=gaussian(4.03), noise_rate=r) for r in (0.0, 0.2, 0.4, 0.6)]
    verdict = analyse(str(write_study(tmp_path, cells, sd=0.001)))
    agreement = verdict.value_agreement["activation"]
    assert agreement.bias == pytest.approx(1.0, abs=0.1)
    assert agreement.limit_low > 0.8
    assert agreement.inside == 0


@given(
    seeds=st.integers(2, 40),
    sd=st.floats(0.001, 0.02),
    margin=st.floats(0.001, 0.02),
)
@example(seeds=15, sd=0.001408708253325569, margin=0.013822536642027004)  # statsmodels: NaN
def test_power_grows_with_seeds_and_margin(seeds, sd, margin):
    base = non_inferiority_power(seeds, sd, margin)
    assert 0.0499 <= base <= 1
    assert non_inferiority_power(seeds + 1, sd, margin) >= base - 1e-6
    assert non_inferiority_power(seeds, sd, 1.1 * margin) >= base - 1e-6


def test_power_is_what_the_verdict_does():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.001, 0.005, (20_000, 8))
    mean, spread = differences.mean(axis=1), differences.std(axis=1, ddof=1) / np.sqrt(8)
    passed = (mean + 1.8946 * spread < 0.005).mean()  # t(7), one-sided 5 %
    assert non_inferiority_power(8, 0.005, 0.005, 0.001) == pytest.approx(passed, abs=0.01)


def test_power_agrees_with_published_simulations():
    """Paired, margin 0.3 points, no true difference (values simulated elsewhere, ± 0.02)."""
    for sd, n, expected in ((0.3, 5, 0.58), (0.3, 10, 0.90), (0.5, 20, 0.82), (0.5, 30, 0.94)):
        assert non_inferiority_power(n, sd, 0.3) == pytest.approx(expected, abs=0.02)
    assert equivalence_power(10, 0.3, 0.3) == pytest.approx(0.80, abs=0.02)


def test_seeds_needed_is_the_smallest():
    n = seeds_needed(sd=0.005, margin=0.005, power=0.8)
    assert (
        non_inferiority_power(n, 0.005, 0.005) >= 0.8 > non_inferiority_power(n - 1, 0.005, 0.005)
    )
    assert list(power_table(0.005, 0.005)["seeds"])[:2] == [3, 5]


@pytest.mark.parametrize(
    "arguments", [{"sd": 0}, {"margin": -1}, {"power": 1}, {"regret": 0.005}, {"sd": 1.0}]
)
def test_impossible_power_is_refused(arguments):
    with pytest.raises(ValueError, match="="):
        seeds_needed(**{"sd": 0.005, "margin": 0.005, **arguments})


def test_pilot_spread_is_the_planted_one(tmp_path):
    cells = [Planted(noise_rate=r) for r in np.linspace(0, 0.8, 20)]
    analysis = compute(str(write_study(tmp_path, cells, sd=0.004, confirm_seeds=10, epochs=1)))
    assert pilot_sd(analysis.tables["regret_by_seed"]) == pytest.approx(0.004 * 2**0.5, rel=0.15)
