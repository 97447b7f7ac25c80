"""What a cost's interval contains: seeds, test examples, the surface; and what recovers a gain."""

import numpy as np
import pandas as pd
import pytest
from planted import BEST_ARMS, Planted, gaussian, write_study
from scipy import stats

from analysis.data.evidence import cell_evidence
from analysis.data.load import load
from analysis.inference.examples import example_effects, two_way, variance_of_mean
from analysis.inference.recovered import UNBOUNDED, Gains, recovered
from analysis.inference.value import Contrast, cost, estimate
from analysis.response.surface import CellSurface, choose_points
from analysis.response.top import HIGH, LOW, SCENARIOS
from analysis.verdict import analyse


def contrast(values, cell="c", dataset="d", **options) -> Contrast:
    return Contrast(cell, dataset, pd.Series(np.asarray(values, dtype=float)), **options)


def packed(table: np.ndarray) -> dict[int, bytes]:
    return {seed: np.packbits(row).tobytes() for seed, row in enumerate(table)}


def test_variance_components_are_unbiased():
    rng = np.random.default_rng(0)
    drawn = [
        two_way(
            rng.normal(0, 1.0, (5, 1)) + rng.normal(0, 2.0, (1, 60)) + rng.normal(0, 3.0, (5, 60))
        )
        for _ in range(400)
    ]
    mean = np.mean([(c.seed, c.example, c.residual) for c in drawn], axis=0)
    assert mean == pytest.approx([1, 4, 9], rel=0.1)


def networks(rng, seeds: int, examples: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong of two networks per seed; some examples favour one of them always."""
    favour = gain + rng.normal(0, 0.25, examples)
    base = rng.uniform(0.4, 0.6, examples)
    one, other = base + favour / 2, base - favour / 2
    return tuple(rng.uniform(size=(seeds, examples)) < p for p in (one, other))


@pytest.mark.slow
def test_interval_covers_over_test_sets():
    """The target is the mean over all test examples: the seeds' interval alone is too short."""
    rng = np.random.default_rng(1)
    inside = {"with": 0, "without": 0}
    studies = 1000
    for _ in range(studies):
        one, other = networks(rng, 10, 200, 0.02)
        values = one.mean(axis=1) - other.mean(axis=1)
        effects = example_effects(packed(one), packed(other))
        for name, examples in (("with", effects), ("without", None)):
            low, high = estimate([contrast(values, examples=examples)]).ends()
            inside[name] += low <= 0.02 <= high
    assert 0.87 <= inside["with"] / studies <= 0.93
    assert inside["without"] / studies < 0.85


def test_test_examples_widen_the_interval():
    rng = np.random.default_rng(2)
    one, other = networks(rng, 10, 200, 0.02)
    values = one.mean(axis=1) - other.mean(axis=1)
    effects = example_effects(packed(one), packed(other))
    plain, wide = cost(contrast(values), 0.005), cost(contrast(values, examples=effects), 0.005)
    assert wide.high - wide.low > plain.high - plain.low
    assert wide.shares.test_examples > 0.2
    assert plain.shares.test_examples is None
    assert wide.measured == plain.measured


def test_cells_of_one_data_set_share_test_examples():
    rng = np.random.default_rng(3)
    one, other = networks(rng, 40, 400, 0.0)
    effects = example_effects(packed(one), packed(other))
    alone = variance_of_mean([[effects]], 1)
    assert variance_of_mean([[effects, effects]], 2) == pytest.approx(alone, rel=0.3)
    assert variance_of_mean([[effects], [effects]], 2) == pytest.approx(alone / 2)


def test_no_examples_or_one_seed_give_no_component():
    bits = packed(np.ones((1, 16), dtype=bool))
    assert example_effects(bits, bits) is None
    two = packed(np.ones((2, 16), dtype=bool))
    assert example_effects(two, packed(np.ones((2, 32), dtype=bool))) is None


def test_low_end_assumes_nothing_unseen_and_high_end_the_most():
    adjustment = np.zeros((SCENARIOS, 50))
    values = [0.001, 0.002, 0.003]
    bare = cost(contrast(values), 0.005)
    adjustment[HIGH] = 0.01
    high = cost(contrast(values, adjustment=adjustment), 0.005)
    assert high.low == pytest.approx(bare.low)
    assert high.high == pytest.approx(bare.high + 0.01)
    adjustment[LOW] = 0.01
    both = cost(contrast(values, adjustment=adjustment), 0.005)
    assert both.low == pytest.approx(bare.low + 0.01)
    assert both.non_inferiority_p > bare.non_inferiority_p


def gains(best, analytic, zero) -> Gains:
    best, analytic, zero = (np.asarray(x, dtype=float) for x in (best, analytic, zero))
    return Gains(contrast(best - zero), contrast(analytic - zero), contrast(best - analytic))


def test_share_recovered_is_fiellers_interval():
    """The ends are the ratios that a paired t test does not reject."""
    rng = np.random.default_rng(4)
    zero = rng.normal(0.5, 0.01, 12)
    best, analytic = zero + rng.normal(0.1, 0.02, 12), zero + rng.normal(0.09, 0.02, 12)
    share = recovered([gains(best, analytic, zero)])
    for end in (share.low, share.high):
        difference = (analytic - zero) - end * (best - zero)
        assert stats.ttest_1samp(difference, 0).pvalue == pytest.approx(0.1, abs=1e-6)
    assert share.low < share.value < share.high
    assert share.gain == pytest.approx((best - zero).mean())


def test_no_gain_has_no_share():
    rng = np.random.default_rng(5)
    zero, best, analytic = rng.normal(0.5, 0.01, (3, 8))
    share = recovered([gains(best, analytic, zero)])
    assert (share.low, share.high, share.reason) == (None, None, UNBOUNDED)


@pytest.mark.slow
def test_coverage_of_the_share_recovered():
    rng = np.random.default_rng(6)
    inside = 0
    for _ in range(2000):
        zero = rng.normal(0.5, 0.01, 10)
        best, analytic = zero + rng.normal(0.05, 0.02, 10), zero + rng.normal(0.04, 0.02, 10)
        share = recovered([gains(best, analytic, zero)])
        inside += share.low is None or share.low <= 0.8 <= share.high
    assert 0.88 <= inside / 2000 <= 0.92


def test_surface_names_the_best_point_and_what_it_lacks(tmp_path):
    """Planted: best ε 3.6, best learning rate 0.1."""
    folder = write_study(tmp_path, [Planted(response=gaussian(3.6))], arms=BEST_ARMS, search=48)
    trials = load(str(folder)).trials
    evidence = cell_evidence(trials[trials["loss"] == "mae"], {})
    arms = {"best": None, "analytic:activation": 3.03, "zero": 0.0}
    chosen = choose_points(evidence, arms)
    assert chosen == choose_points(evidence, arms)
    assert chosen["best"].epsilon == pytest.approx(3.6, abs=0.5)
    assert chosen["analytic:activation"].epsilon == 3.03
    assert all(abs(np.log10(chosen[arm].lr) + 1) < 0.3 for arm in list(arms)[:2])
    surface = CellSurface(evidence, margin=0.005)
    drawn = surface.draw(arms, chosen).shortfalls
    assert all(
        shortfall.shape[0] == SCENARIOS and (shortfall >= 0).all() for shortfall in drawn.values()
    )
    poor = chosen | {"best": chosen["best"]._replace(epsilon=5.0)}
    true = float(np.subtract(*gaussian(3.6)(np.array([3.6, 5.0]))))
    worse = surface.draw(arms, poor).shortfalls["best"]
    assert worse.mean() == pytest.approx(true, rel=0.25)


@pytest.mark.slow
def test_value_interval_covers_and_is_seldom_wrong(tmp_path):
    """True cost 0.51 points at a margin of 0.5; the confirmed best point is the true one or not."""
    inside, wrong, studies = 0, 0, 60
    width = 0.57 / np.sqrt(-2 * np.log(1 - 0.0051 / 0.83))  # analytic ε 3.03 costs 0.51 points
    for k in range(studies):
        rng = np.random.default_rng(k)
        cell = Planted(response=gaussian(3.6, width=width), tuned=3.6 + rng.normal(0, 0.2))
        assert cell.value() == pytest.approx(0.0051, abs=1e-5)
        folder = write_study(
            tmp_path / str(k), [cell], arms=BEST_ARMS, search=32, sd=0.005, confirm_seeds=10, rng=k,
            epochs=1,
        )  # fmt: skip
        value = analyse(str(folder)).cells[0].value["activation"]
        inside += value.low <= 0.0051 <= value.high
        wrong += value.high < 0.005
    assert inside / studies >= 0.84  # standard error 0.04
    assert wrong / studies <= 0.12
