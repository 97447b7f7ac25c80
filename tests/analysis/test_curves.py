"""The Gaussian process against scikit-learn's, setting by setting."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern

from analysis import curves

TOP = (0.3, 0.5)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("rbf", RBF(1.0)), ("matern52", Matern(1.0, nu=2.5)), ("matern32", Matern(1.0, nu=1.5))],
)
def test_correlations_are_those_of_scikit_learn(name, kernel):
    d = np.linspace(0, 3, 13)
    assert np.allclose(curves.correlation(name, d), kernel(np.zeros((1, 1)), d[:, None])[0])


def test_evidence_is_that_of_scikit_learn():
    """Unequal counts too: whitening must not change the ranking of hyperparameters."""
    rng = np.random.default_rng(0)
    unit, y = np.linspace(0, 1, 9), rng.normal(size=9)
    counts = np.array([3, 3, 3, 2, 3, 5, 3, 3, 1])
    noise = np.array([0.05, 0.4])
    settings = curves._Settings(
        np.array([0, 1]), np.array([3, 8]), np.array([True, False]), np.array([0.5, 0.4]),
        np.array([0.2, 0.8]),
    )  # fmt: skip
    fit = curves._score(settings, unit, TOP, y, np.sqrt(counts), noise)
    places = settings.warp(unit, TOP)
    a2, expected = curves.AMPLITUDES**2, np.empty_like(fit.score)
    for m, shape in enumerate((RBF(curves.LENGTHS[3]), Matern(curves.LENGTHS[8], nu=2.5))):
        for i in range(len(a2)):
            for j in range(len(noise)):
                kernel = ConstantKernel(a2[i]) * (ConstantKernel(curves.LEVEL) + shape)
                gp = GaussianProcessRegressor(kernel, alpha=noise[j] / counts, optimizer=None)
                gp.fit(places[m][:, None], y)
                expected[m, i, j] = gp.log_marginal_likelihood_value_
    difference = fit.score - expected
    assert np.ptp(difference) < 1e-6


def test_mean_and_band_are_near_a_fitted_gaussian_process():
    x = np.linspace(0, 8, 12)
    y = np.sin(x / 2)
    grid, drawn, mean = curves.draw_curves(x, y, np.full(12, 0.01**2 / 5), 40)
    inside = (grid > 0.5) & (grid < 7.5)
    assert np.abs(mean - np.sin(grid / 2))[inside].max() < 0.03
    assert np.abs(drawn.mean(axis=0) - mean)[inside].max() < 0.01
    assert 0.001 < drawn.std(axis=0)[inside].max() < 0.05


def test_drawn_curves_reproduce():
    x, y = np.linspace(0, 1, 8), np.arange(8.0)
    one, two = (curves.draw_curves(x, y, np.full(8, 0.1), 14, rng_seed=4)[1] for _ in range(2))
    assert np.array_equal(one, two)


def test_warps_keep_order_and_ends():
    settings = curves._design()
    u = settings.warp(np.linspace(0, 1, 50), TOP)
    assert (np.diff(u, axis=1) > 0).all()
    assert np.allclose(u[:, 0], 0)
    assert np.allclose(u[:, -1], 1)
