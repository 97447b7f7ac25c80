"""Drawn curves: likelihood against numerical integration, fit to the points, maxima."""

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.gaussian_process.kernels import Matern

from analysis.response import curves
from analysis.response.curves import CurveModel, draw_curves

X = np.linspace(0, 1, 9)
Y = np.array([-2.0, -0.9, 0.1, 0.7, 0.9, 0.8, 0.5, 0.1, -0.2])


def test_matern_is_scikit_learns():
    d = np.linspace(0, 3, 13)
    assert np.allclose(curves.matern(d), Matern(1.0, nu=2.5)(np.zeros((1, 1)), d[:, None])[0])


def test_likelihood_is_the_integral_over_level_and_height():
    """Equal to numerical integration of the Gaussian, up to a common constant."""
    model = CurveModel(X, Y, np.linspace(0.01, 0.05, 9), 16)
    particles = model.start(np.random.default_rng(0))
    rows = particles[np.random.default_rng(1).choice(len(particles), 12, replace=False)]
    rows = rows[np.argsort(rows.stratum)]
    g = model.shapes(rows, np.empty(0))
    differences = []
    for k in range(len(rows)):
        scale = np.exp(rows.log_noise[k])
        covariance = np.linalg.inv(model.inverses[rows.setting[k]]) * scale**2
        inverse, logdet = np.linalg.inv(covariance), np.linalg.slogdet(covariance).logabsdet

        def of_height(h, g=g[k], inverse=inverse, logdet=logdet):
            """Density of y given a height, with the level integrated out."""
            r = Y - h * g
            total = inverse.sum()
            q = r @ inverse @ r - (inverse.sum(axis=0) @ r) ** 2 / total
            return (
                np.exp(-0.5 * (q + logdet + np.log(total)))
                * 2
                * stats.norm.pdf(h, 0, curves.HEIGHT)
            )

        integral, _ = integrate.quad(
            of_height, 0, 12, epsabs=0, epsrel=1e-10, limit=400, points=[0.5, 1, 2]
        )
        if integral > 1e-250:
            differences.append(np.log(integral) - rows.score[k])
    assert len(differences) >= 8
    assert np.ptp(differences) < 1e-6


def test_curves_go_through_points_without_noise():
    drawn = draw_curves(8 * X, 0.9 + 0.05 * Y, np.full(9, 1e-12), 16)
    at = np.abs(drawn.grid[:, None] - 8 * X).argmin(axis=0)
    assert np.allclose(drawn.grid[at], 8 * X)
    assert np.abs(drawn.curves[:, at] - (0.9 + 0.05 * Y)).max() < 0.003
    assert np.abs(drawn.middle[at] - (0.9 + 0.05 * Y)).max() < 0.001


def test_more_noise_gives_a_longer_interval_that_contains_the_truth():
    truth = 0.93 - 0.01 * (8 * X - 3.3) ** 2
    lengths = []
    for sd in (0.001, 0.01, 0.03):
        y = truth + np.random.default_rng(3).normal(0, sd, 9)
        peaks = draw_curves(8 * X, y, np.full(9, sd**2), 16).peaks
        low, high = np.quantile(peaks, [0.025, 0.975])
        assert low <= 3.3 <= high
        lengths.append(high - low)
    assert lengths == sorted(lengths)


def test_a_kinked_maximum_between_two_points_is_covered():
    """The left curvature is 10 times the right one: a smooth curve would peak far to the right."""
    top, left, right = 3.4, 0.04, 0.004
    d = 8 * X - top
    y = 0.93 - np.where(d < 0, left, right) * d**2
    peaks = draw_curves(8 * X, y, np.full(9, 1e-6), 16).peaks
    low, high = np.quantile(peaks, [0.025, 0.975])
    assert low <= top <= high
    assert high - low < 0.5


def test_peaks_are_the_curves_maxima():
    drawn = draw_curves(8 * X, 0.9 + 0.05 * Y, np.full(9, 1e-6), 16)
    step = drawn.grid[1] - drawn.grid[0]
    tops = drawn.grid[drawn.curves.argmax(axis=1)]
    assert np.abs(drawn.peaks - tops).max() <= step + 1e-9


def test_drawn_curves_reproduce():
    one, two = (draw_curves(X, Y, np.full(9, 0.1), 14, rng_seed=4) for _ in range(2))
    assert np.array_equal(one.curves, two.curves)
    assert np.array_equal(one.peaks, two.peaks)
    assert not np.array_equal(one.peaks, draw_curves(X, Y, np.full(9, 0.1), 14, 5).peaks)


@pytest.mark.parametrize("dof", [0, 16])
def test_draws_are_finite_with_and_without_an_estimate_of_the_noise(dof):
    drawn = draw_curves(X, Y, np.full(9, 0.01), dof)
    assert np.isfinite(drawn.curves).all()
    low, high = np.quantile(drawn.peaks, [0.025, 0.975])
    assert low < 0.5 < high
