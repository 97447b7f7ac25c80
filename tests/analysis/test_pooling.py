"""Pooled claims: dependence is respected, corrections are applied, trends have the right sign."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import (
    BEST_ARMS,
    Planted,
    cell_verdict,
    change_rows,
    default_cells,
    edge,
    gaussian,
    write_study,
)
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from analysis.inference.means import mean_over_cells, split_sparse
from analysis.inference.pooling import holm, noise_slopes, pooled_value
from analysis.inference.power import (
    equivalence_power,
    non_inferiority_power,
    pilot_sd,
    power_table,
    seeds_needed,
)
from analysis.inference.random_effects import random_effects
from analysis.inference.records import Cost, Interval
from analysis.inference.summary import verdict_paragraph
from analysis.inference.value import Contrast
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


def contrasts(values: np.ndarray) -> list[Contrast]:
    """One cell per column of (seeds, cells); NaN where a seed is missing."""
    columns = [pd.Series(column).dropna() for column in values.T]
    return [Contrast(f"c{k}", "d", column) for k, column in enumerate(columns)]


def test_copies_of_a_cell_add_no_evidence():
    values = np.random.default_rng(0).normal(0, 0.01, (5, 1))
    one, many = (pooled_value(contrasts(np.tile(values, (1, k)))) for k in (1, 20))
    assert (many.low, many.high, many.n) == (pytest.approx(one.low), pytest.approx(one.high), 5)


def test_cells_without_shared_seeds_use_satterthwaite():
    values = np.full((10, 2), np.nan)
    drawn = np.random.default_rng(0).normal(0, 0.01, (5, 2))
    values[:5, 0], values[5:, 1] = drawn.T
    pooled = pooled_value(contrasts(values))
    expected = stats.ttest_ind(*drawn.T, equal_var=False)
    half = stats.t.ppf(0.95, expected.df) * np.sqrt(drawn.var(axis=0, ddof=1).sum() / 5)
    assert pooled.high - pooled.mean == pytest.approx(half / 2, rel=0.02)
    assert pooled.n == 5


def test_complete_seeds_give_the_t_interval_of_the_means():
    values = np.random.default_rng(1).normal(0.01, 0.01, (8, 3))
    pooled = pooled_value(contrasts(values))
    expected = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval(0.90)
    assert [pooled.low, pooled.high] == pytest.approx([expected.low, expected.high])


def coverage(make, studies: int, seeds: int = 20, rho: float = 0.5) -> tuple[float, float]:
    """Coverage of the 90 % interval of the mean over four correlated cells, and P(high < 0)."""
    rng = np.random.default_rng(0)
    inside, below = 0, 0
    for _ in range(studies):
        common = rng.standard_normal((seeds, 1))
        values = np.sqrt(rho) * common + np.sqrt(1 - rho) * rng.standard_normal((seeds, 4))
        make(values, rng)
        table, _ = split_sparse(pd.DataFrame(values * [1, 1, 2, 0.5]))
        mean = mean_over_cells(table.to_numpy())
        half = stats.t.ppf(0.95, mean.dof) * mean.error
        inside += abs(mean.value) <= half
        below += mean.value + half < 0
    return inside / studies, below / studies


def different_quarters(values: np.ndarray, rng: np.random.Generator) -> None:
    quarter = len(values) // 4
    for cell in range(4):
        values[cell * quarter : (cell + 1) * quarter, cell] = np.nan


def random_quarters(values: np.ndarray, rng: np.random.Generator) -> None:
    for cell in range(4):
        values[rng.choice(len(values), len(values) // 4, replace=False), cell] = np.nan


def test_each_cell_lacks_a_quarter_of_its_seeds():
    inside, below = coverage(different_quarters, 600)
    assert 0.86 <= inside <= 0.94  # standard error 0.012
    assert below < 0.08


@pytest.mark.slow
@pytest.mark.parametrize("make", [different_quarters, random_quarters])
@pytest.mark.parametrize("seeds", [8, 20])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_coverage_with_missing_seeds(make, seeds, rho):
    inside, below = coverage(make, 4000, seeds, rho)
    assert 0.88 <= inside <= 0.93
    assert below <= 0.06


@pytest.mark.parametrize("left", [1, 2])
def test_a_cell_with_a_tenth_of_the_seeds_neither_turns_nor_removes_the_verdict(left):
    rng = np.random.default_rng(0)
    values = rng.normal(0.001, 0.003, (20, 4))
    whole = pooled_value(contrasts(values))
    poor = np.full((20, 1), np.nan)
    poor[:left] = [[0.3], [-0.2]][:left]
    pooled = pooled_value(contrasts(np.hstack([values, poor])))
    assert (pooled.low, pooled.high) == (whole.low, whole.high)
    assert pooled.left_out == ["c4"]


def sure(**options):
    return {"arms": BEST_ARMS, "sd": 0.002, "sweep_seeds": 2, "search": 16, **options}


def test_holm_is_stricter_than_each_cell_alone():
    """Three p values below 5 % pass alone, and not always together."""
    cells = []
    for k, (p, evidence) in enumerate([(0.001, True), (0.02, True), (0.04, True), (0.001, False)]):
        measured = Interval(0.0, -0.001, 0.001, 5)
        cost = Cost(0.0, -0.001, 0.001, 5, measured, 0.0, 0.001, None, False, False, p, p)
        cell = cell_verdict(f"c{k}")
        cells.append(replace(cell, value={"activation": cost}, evidence=evidence))
    assert holm(cells) == ["c0", "c1", "c2"]
    worse = replace(cells[1].value["activation"], non_inferiority_p=0.03)
    cells[1] = replace(cells[1], value={"activation": worse})
    assert holm(cells) == ["c0"]


def test_margin_curve_ends_where_the_interval_does(tmp_path):
    analysis = compute(str(write_study(tmp_path, default_cells(), arms=BEST_ARMS)))
    curve = analysis.tables["margin_curve"].set_index("margin")["pooled"]
    high = analysis.verdict.pooled.value.high
    assert curve.index[0] < high < curve.index[-1]
    assert curve[curve.index > high].isin(["equivalent", "non_inferior"]).all()
    assert (~curve[curve.index < high].isin(["equivalent", "non_inferior"])).all()


def test_a_bad_cell_is_named_beside_a_good_average(tmp_path):
    good = [Planted(response=gaussian(3.1), noise_rate=r) for r in np.linspace(0, 0.6, 13)]
    bad = Planted(response=gaussian(3.55), noise_rate=0.7, loss="gce")
    assert bad.value() > 0.03
    verdict = analyse(str(write_study(tmp_path, [*good, bad], **sure(sd=0.001, margin=0.01))))
    assert verdict.pooled.verdict.agrees
    assert "on average, but not in every cell" in verdict_paragraph(verdict)


def test_a_cell_with_one_epsilon_is_named_and_not_in_the_mean(tmp_path):
    same, other = Planted(response=gaussian(3.03)), Planted(response=gaussian(3.3), dataset="other")
    verdict = analyse(str(write_study(tmp_path, [same, other], **sure())))
    assert verdict.pooled.scope.cells == verdict.pooled.value.cells == 1
    text = verdict_paragraph(verdict)
    assert "this cell in which ε is shown to matter, on other" in text
    assert f"not measured, because best and analytic ε are the same: {same.cell_id}" in text


def test_the_headline_has_scope_and_share(tmp_path):
    verdict = analyse(str(write_study(tmp_path, default_cells(), arms=BEST_ARMS)))
    pooled, text = verdict.pooled, verdict_paragraph(verdict)
    assert pooled.scope.cells == pooled.value.cells == 2  # in the cells of digits ε hardly matters
    assert pooled.scope.datasets == 1
    assert "these 2 cells in which ε is shown to matter, on digit-pairs" in text
    assert "one data set says nothing about further ones" in text
    assert f"analytic ε recovers {100 * pooled.recovered.value:.0f} %" in text
    assert 0.9 < pooled.recovered.low < pooled.recovered.value < pooled.recovered.high < 1.05
    assert "over 4 searches" in text


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


def test_best_epsilon_on_the_edge_is_a_bound_and_not_dropped(tmp_path):
    cells = [Planted(response=edge(), noise_rate=r) for r in (0.0, 0.2, 0.4)]
    cells += [Planted(response=gaussian(3.5), noise_rate=0.6)]
    verdict = analyse(str(write_study(tmp_path, cells, sd=0.001)))
    agreement = verdict.value_agreement["activation"]
    assert agreement.cells == 4
    assert agreement.on_edge == 3
    assert agreement.bounds == ["best ε ≥ 8 in 3 cells (analytic ε 3.03)"]
    assert agreement.bias_at_edge > 3 > agreement.bias


def test_a_cell_with_a_sweep_alone_does_not_count_in_every_cell(tmp_path):
    cell, other = Planted(response=gaussian(3.1)), Planted(response=gaussian(3.1), dataset="other")
    folder = write_study(tmp_path, [cell, other], **sure(confirm_seeds=10, margin=0.03))
    change_rows(folder, lambda f: f["dataset"] == "other")
    for path in (folder / "trials/search").glob("*.parquet"):
        frame = pq.read_table(path).to_pandas()
        table = pa.Table.from_pandas(frame[frame["dataset"] != "other"], preserve_index=False)
        pq.write_table(table, path)
    verdict = analyse(str(folder))
    assert [c.verdict.agrees for c in verdict.cells] == [True, False]
    assert verdict.pooled.non_inferior_in_every_cell


@given(
    seeds=st.integers(2, 40),
    sd=st.floats(0.001, 0.02),
    margin=st.floats(0.001, 0.02),
)
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
