"""The gain of tuning over replicates of the search."""

import numpy as np
import pandas as pd
import pytest
from planted import BEST_ARMS, Planted, gaussian, write_study
from scipy import stats

from analysis.inference.procedure import Gain, half_width, procedure
from analysis.verdict import analyse


def gain(table: np.ndarray, cell: str = "c") -> Gain:
    """From differences of shape (replicates, seeds)."""
    replicates, seeds = table.shape
    frame = pd.DataFrame(
        {
            "replicate": np.repeat(np.arange(replicates), seeds),
            "seed": np.arange(replicates * seeds),
            "difference": table.ravel(),
        }
    )
    return Gain(cell, "d", frame.dropna())


def test_interval_is_over_replicates():
    table = np.random.default_rng(0).normal(0.01, 0.01, (5, 3))
    result = procedure([gain(table)], 0.005)
    expected = stats.ttest_1samp(table.mean(axis=1), 0).confidence_interval(0.90)
    assert [result.low, result.high] == pytest.approx([expected.low, expected.high])
    assert (result.n, len(result.replicates)) == (5, 5)
    assert result.over_seeds.n == 15


@pytest.mark.parametrize("replicates", [1, 2])
def test_few_searches_have_no_interval(replicates):
    result = procedure([gain(np.full((replicates, 4), 0.02))], 0.005)
    assert (result.low, result.high, result.verdict) == (None, None, "undecided")
    assert "an interval over searches needs search.replicates ≥ 3" in result.reason


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.02, "inferior"), (0.0, "equivalent"), (-0.02, "non_inferior")]
)
def test_verdict_of_the_procedure(mean, verdict):
    table = mean + np.random.default_rng(0).normal(0, 0.001, (4, 3))
    assert procedure([gain(table)], 0.005).verdict == verdict


def test_variance_divides_into_searches_and_seeds():
    rng = np.random.default_rng(1)
    search, seeds = 0.02, 0.01
    results = [
        procedure([gain(rng.normal(0, search, (6, 1)) + rng.normal(0, seeds, (6, 3)))], 0.005)
        for _ in range(300)
    ]
    assert np.sqrt(np.mean([r.sd_search**2 for r in results])) == pytest.approx(search, rel=0.1)
    assert np.sqrt(np.mean([r.sd_seed**2 for r in results])) == pytest.approx(seeds, rel=0.1)
    assert all(r.shares.searches + r.shares.seeds == pytest.approx(1) for r in results)
    widths = [(r.high - r.low) / 2 for r in results]
    assert np.mean(widths) == pytest.approx(half_width(search, seeds, 6, 3), rel=0.07)


def test_cells_share_replicates():
    table = np.random.default_rng(2).normal(0, 0.01, (4, 3))
    one = procedure([gain(table)], 0.005)
    many = procedure([gain(table, f"c{k}") for k in range(5)], 0.005)
    assert [many.low, many.high] == pytest.approx([one.low, one.high])


def test_a_missing_replicate_of_one_cell_is_not_fatal():
    rng = np.random.default_rng(3)
    tables = rng.normal(0, 0.01, (3, 4, 3))
    tables[0, 2] = np.nan
    result = procedure([gain(table, f"c{k}") for k, table in enumerate(tables)], 0.005)
    assert result.low < result.mean < result.high


@pytest.mark.slow
def test_interval_covers_the_mean_over_searches():
    rng = np.random.default_rng(4)
    inside = 0
    for _ in range(2000):
        table = rng.normal(0, 0.01, (4, 1)) + rng.normal(0, 0.01, (4, 3))
        result = procedure([gain(table)], 0.005)
        inside += result.low <= 0 <= result.high
    assert 0.88 <= inside / 2000 <= 0.92


def test_a_study_reports_each_replicate(tmp_path):
    cell = Planted(response=gaussian(3.03), search_sd=1.0)
    folder = write_study(tmp_path, [cell], arms=BEST_ARMS, replicates=5, replicate_seeds=2)
    judged = analyse(str(folder)).cells[0]
    result = judged.procedure["activation"]
    assert result.n == 5
    assert [gain.seeds for gain in result.replicates] == [2] * 5
    assert result.high < 0  # tuning is a lottery around the right ε
    assert len(set(judged.epsilon_tuned_by_replicate)) == 5
    assert judged.epsilon_tuned == np.median(judged.epsilon_tuned_by_replicate)
    tuned, analytic = judged.choices["tuned"], judged.choices["analytic:activation"]
    for gain, one, other in zip(result.replicates, tuned, analytic, strict=True):
        assert gain.mean == pytest.approx(one.accuracy.mean - other.accuracy.mean)
