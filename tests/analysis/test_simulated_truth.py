"""Intervals and verdicts against planted truth, over hundreds of cells. Takes minutes."""

import numpy as np
import pytest
from planted import Planted, edge, flat, gaussian, steep_left, symmetric, two_sided, write_study

from analysis.inference.power import non_inferiority_power
from analysis.response.curves import draw_curves
from analysis.response.fit import best_epsilon, is_flat, remove_seed_effect
from analysis.verdict import compute

pytestmark = pytest.mark.slow

GRID = np.linspace(0, 8, 8001)
SHAPES = {
    "symmetric": lambda r: symmetric(r.uniform(1.5, 6.5), width=r.uniform(2, 6)),
    "gaussian": lambda r: gaussian(r.uniform(2, 5.5), width=r.uniform(1.2, 3)),
    "steep-left": lambda r: steep_left(r.uniform(1.5, 5)),
    "kinked": lambda r: two_sided(r.uniform(2, 5), r.uniform(0.01, 0.05), r.uniform(0.002, 0.01)),
}


def intervals(make, seeds: int, sd: float, studies: int):
    """Best-ε intervals of `studies` sweeps with their truths."""
    for k in range(studies):
        rng = np.random.default_rng([k, seeds, int(1e4 * sd)])
        response = make(rng)
        epsilon = np.array(sorted({*np.linspace(0, 8, 9), 3.03}))
        y = response(epsilon)[:, None] + rng.normal(0, 0.005, seeds)
        y = y + rng.normal(0, sd, y.shape)
        points = remove_seed_effect(y)
        drawn = draw_curves(epsilon, points.means, points.variances, points.dof, k)
        best = best_epsilon(drawn.peaks, epsilon[0], epsilon[-1], flat=is_flat(y))
        yield best, GRID[np.argmax(response(GRID))]


@pytest.mark.parametrize("shape", list(SHAPES))
def test_best_epsilon_interval_covers(shape):
    """Nominal 95 %; 320 sweeps, so a standard error of 1.2 points."""
    hits = [
        best.low <= truth <= best.high
        for seeds in (3, 5, 10, 20)
        for sd in (0.003, 0.01)
        for best, truth in intervals(SHAPES[shape], seeds, sd, 40)
    ]
    assert 0.92 < np.mean(hits) < 0.995


def test_edges_are_flagged_and_flat_curves_are_not_numbers():
    flags = [best.on_edge for best, _ in intervals(lambda r: edge(), 5, 0.005, 40)]
    assert np.mean(flags) > 0.95
    inner = [best.on_edge for best, _ in intervals(SHAPES["symmetric"], 5, 0.005, 40)]
    assert np.mean(inner) < 0.02
    flags = [best.flat for best, _ in intervals(lambda r: flat(), 5, 0.005, 40)]
    assert np.mean(flags) > 0.85  # the test's level is 5 %
    assert not any(best.flat for best, _ in intervals(SHAPES["gaussian"], 5, 0.005, 40))


def confirmed(folder, regret: float, seeds: int, cells: int = 600, sd: float = 0.004):
    """Verdicts of many cells whose true regret is `regret`."""
    drop = 0.93 - regret

    def response(e):
        e = np.asarray(e, dtype=float)
        return np.where(e < 1, 0.2, np.where(np.abs(e - 3.03) < 0.01, drop, 0.93))

    planted = [
        Planted(noise_rate=k / 1000, response=response, tuned=4.0, ce=None) for k in range(cells)
    ]
    study = write_study(
        folder, planted, stages=("confirm",), confirm_seeds=seeds, sd=sd, epochs=1,
        arms=("tuned", "analytic", "zero"), rng=seeds,
    )  # fmt: skip
    return compute(str(study)).verdict.cells


@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
def test_false_agreement_at_the_margin_is_five_percent(tmp_path, seeds):
    verdicts = [c.verdict for c in confirmed(tmp_path, 0.005, seeds)]
    assert 0.025 < np.mean([v == "non_inferior" for v in verdicts]) < 0.075  # ± 2.8 errors
    assert np.mean([v == "inferior" for v in verdicts]) < 0.075


@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
def test_regret_interval_covers_and_power_is_as_predicted(tmp_path, seeds):
    cells = confirmed(tmp_path, 0.001, seeds)
    inside = [c.regret["activation"].low <= 0.001 <= c.regret["activation"].high for c in cells]
    assert np.mean(inside) == pytest.approx(0.90, abs=0.035)
    predicted = non_inferiority_power(seeds, 0.004 * 2**0.5, 0.005, 0.001)
    passed = np.mean([c.verdict == "non_inferior" for c in cells])
    assert passed == pytest.approx(predicted, abs=0.06)
