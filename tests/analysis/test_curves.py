"""The posterior of a curve: likelihood against the multivariate normal, its top, draws."""

import numpy as np
import pytest
from scipy import stats

from analysis.response.curves import KAPPA_PRIOR, CurveModel, draw_curves
from analysis.response.shapes import SHAPES, losses

X = np.linspace(0, 1, 9)
Y = np.array([-2.0, -0.9, 0.1, 0.7, 0.9, 0.8, 0.5, 0.1, -0.2])


def interval(drawn, share=0.95):
    low, high = (1 - share) / 2, (1 + share) / 2
    return (
        float(np.interp(low, drawn.first, drawn.positions)),
        float(np.interp(high, drawn.last, drawn.positions)),
    )


def test_likelihood_is_that_of_the_multivariate_normal():
    """Equal up to one constant where both heights are certain to be positive."""
    model = CurveModel(X, Y - Y.max(), np.linspace(0.001, 0.003, 9), 10**7)
    at = np.array([0.42, 0.5, 0.55])
    shapes = [s for s in SHAPES if s.scale > 1][:4]
    log = model._log_posterior(at, at, shapes, shapes, np.array([0, 1]))
    differences = []
    for n, k, a, b in np.ndindex(log.shape):
        left = losses([shapes[a]], np.maximum(at[[n]] - X[:, None], 0).T)[0, 0]
        right = losses([shapes[b]], np.maximum(X[:, None] - at[[n]], 0).T)[0, 0]
        covariance = np.diag(1 / model.weight[k]) + 1e4
        covariance += shapes[a].scale ** 2 * np.outer(left, left)
        covariance += shapes[b].scale ** 2 * np.outer(right, right)
        normal = stats.multivariate_normal(np.zeros(9), covariance).logpdf(Y - Y.max())
        prior = np.log(KAPPA_PRIOR[k] * shapes[a].weight * shapes[b].weight)
        differences.append(log[n, k, a, b] - normal - prior)
    assert len(differences) == 96
    assert np.ptp(differences) < 0.02


def test_probabilities_add_up_and_grow():
    drawn = draw_curves(8 * X, 0.9 + 0.05 * Y, np.full(9, 1e-6), 16)
    for distribution in (drawn.first, drawn.last):
        assert (np.diff(distribution) >= 0).all()
        assert distribution[0] < 0.01
        assert distribution[-1] > 0.99
    assert (drawn.last <= drawn.first + 1e-9).all()  # a top ends after it begins


def test_drawn_curves_are_near_the_points_and_their_tops_follow_the_posterior():
    drawn = draw_curves(8 * X, 0.9 + 0.05 * Y, np.full(9, 1e-8), 16)
    at = np.abs(drawn.grid[:, None] - 8 * X).argmin(axis=0)
    assert np.allclose(drawn.grid[at], 8 * X)
    depth = 0.05 * (Y.max() - Y)
    assert (np.abs(drawn.middle[at] - (0.9 + 0.05 * Y)) < 0.002 + 0.15 * depth).all()
    middle = 0.5 * (drawn.first + drawn.last)
    expected = np.interp([0.25, 0.5, 0.75], middle, drawn.positions)
    assert np.quantile(drawn.peaks, [0.25, 0.5, 0.75]) == pytest.approx(expected, abs=0.15)


def test_more_noise_gives_a_longer_interval_that_contains_the_truth():
    truth = 0.93 - 0.01 * (8 * X - 3.3) ** 2
    lengths = []
    for sd in (0.001, 0.01, 0.03):
        y = truth + np.random.default_rng(3).normal(0, sd, 9)
        low, high = interval(draw_curves(8 * X, y, np.full(9, sd**2), 16))
        assert low <= 3.3 <= high
        lengths.append(high - low)
    assert lengths == sorted(lengths)


def test_a_kinked_maximum_between_two_points_is_covered():
    """The left curvature is 10 times the right one: a smooth curve would peak far to the right."""
    top, left, right = 3.4, 0.04, 0.004
    d = 8 * X - top
    y = 0.93 - np.where(d < 0, left, right) * d**2
    low, high = interval(draw_curves(8 * X, y, np.full(9, 1e-6), 16))
    assert low <= top <= high
    assert high - low < 3


def test_a_shoulder_beside_a_collapse_is_covered():
    """The maximum lies right at the top of a collapse that no point of the sweep resolves."""
    fine = np.linspace(0, 8, 8001)

    def curve(e):
        return 0.2 + 0.7 * stats.norm.cdf((e - 2.6) / 0.15) - 0.01 * e

    low, high = interval(draw_curves(8 * X, curve(8 * X), np.full(9, 1e-6), 16))
    assert low <= fine[curve(fine).argmax()] <= high
    assert high - low < 2


def test_a_level_top_is_held_as_a_set():
    x = np.linspace(0, 8, 10)
    y = 0.93 - 0.1 * np.maximum(np.abs(x - 4.0) - 1.5, 0)
    low, high = interval(draw_curves(x, y, np.full(10, 1e-5), 18))
    assert low <= 3.0
    assert high >= 5.0


def test_two_maxima_give_an_interval_that_holds_both():
    x = np.linspace(0, 8, 10)
    y = 0.6 + 0.3 * np.exp(-((x - 2) ** 2)) + 0.3 * np.exp(-((x - 6) ** 2))
    low, high = interval(draw_curves(x, y, np.full(10, 1e-5), 18))
    assert low <= 2.2
    assert high >= 5.8


def test_the_interval_does_not_depend_on_the_random_seed_and_the_draws_do():
    one, two, other = (draw_curves(X, Y, np.full(9, 0.1), 14, seed) for seed in (4, 4, 5))
    assert np.array_equal(one.curves, two.curves)
    assert not np.array_equal(one.curves, other.curves)
    assert np.array_equal(one.first, other.first)
    assert np.array_equal(one.last, other.last)


@pytest.mark.parametrize("dof", [0, 16])
def test_draws_are_finite_with_and_without_an_estimate_of_the_noise(dof):
    drawn = draw_curves(X, Y, np.full(9, 0.01), dof)
    assert np.isfinite(drawn.curves).all()
    low, high = interval(drawn)
    assert low < 0.5 < high
