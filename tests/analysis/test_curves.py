"""The posterior of a curve: likelihood against the multivariate normal, its top, draws."""

import numpy as np
import pytest
from scipy import stats

from analysis.response import collapses, domes, sides
from analysis.response.curves import KINDS, draw_curves
from analysis.response.quadrature import Points, position_prior
from analysis.response.shapes import SHAPES, losses

X = np.linspace(0, 1, 9)
Y = np.array([-2.0, -0.9, 0.1, 0.7, 0.9, 0.8, 0.5, 0.1, -0.2])


def interval(drawn, share=0.95):
    low, high = (1 - share) / 2, (1 + share) / 2
    return (
        float(np.interp(low, drawn.first, drawn.positions)),
        float(np.interp(high, drawn.last, drawn.positions)),
    )


# So many degrees of freedom that the noise is known, and the likelihood is a normal one.
POINTS = Points(X, Y - Y.max(), np.linspace(0.001, 0.003, 9), 10**7)


def normal(noise, *terms):
    """Log density of the points where a level and the heights of losses are normal."""
    covariance = np.diag(noise) + 1e4
    covariance += sum(scale**2 * np.outer(loss, loss) for scale, loss in terms)
    return stats.multivariate_normal(np.zeros(9), covariance).logpdf(POINTS.y)


def test_likelihood_of_two_sides_is_that_of_the_multivariate_normal():
    """Equal up to one constant where both heights are certain to be positive."""
    at, misfit = np.array([0.42, 0.5, 0.55]), sides.Misfit((0.1, 0.2), (0.6, 0.4))
    shapes = [s for s in SHAPES if s.scale > 1][:4]
    log = sides.log_posterior(POINTS, at, at, shapes, shapes, misfit)
    noise = 1 / POINTS.weights(misfit.kappas)
    differences = []
    for n, k, a, b in np.ndindex(log.shape):
        left = losses([shapes[a]], np.maximum(at[[n]] - X[:, None], 0).T)[0, 0]
        right = losses([shapes[b]], np.maximum(X[:, None] - at[[n]], 0).T)[0, 0]
        expected = normal(noise[k], (shapes[a].scale, left), (shapes[b].scale, right))
        prior = np.log(misfit.prior[k] * shapes[a].weight * shapes[b].weight)
        if np.isfinite(log[n, k, a, b]):
            differences.append(log[n, k, a, b] - expected - prior)
    assert len(differences) > 20
    assert np.ptp(differences) < 0.02


def test_likelihood_of_a_smooth_top_is_that_of_the_multivariate_normal():
    part = domes.smooth_tops(POINTS)
    noise, differences = 1 / POINTS.weights(domes.KAPPAS), []
    for n, k, s in np.ndindex(part.log.shape):
        if n % 9 == 0 and s % 20 == 0 and 0.3 < part.first[n] < 0.7:
            shape = part.domes.take(np.array([s]))
            loss = shape.own_losses((X - part.first[n])[None])[0]
            expected = normal(noise[k], (domes.HEIGHT, loss / domes.spread(loss)))
            cell = position_prior(part.first[n]) * part.width[n, 0]
            prior = np.log(domes.KAPPA_PRIOR[k] * shape.weight[0] * cell)
            differences.append(part.log[n, k, s] - expected - prior)
    assert len(differences) > 20
    assert np.ptp(differences) < 0.02


def test_likelihood_of_a_collapse_is_that_of_the_multivariate_normal():
    part = collapses.collapses(POINTS)
    noise, differences = 1 / POINTS.weights(collapses.KAPPAS), []
    sure = np.flatnonzero(part.log > part.log.max() - 4)[::10]
    for n in sure[part.slow_scale[sure] > 0.5]:
        f, h = (v[0] for v in part._losses(np.array([n]), X))
        k = part.kappa[n]
        expected = normal(noise[k], (collapses.HEIGHT, f), (part.slow_scale[n], h))
        cell = part.width[n, 0]
        prior = np.log(collapses.KAPPA_PRIOR[k] * cell)
        differences.append(part.log[n] - expected - prior)
    assert len(differences) > 20
    assert np.ptp(differences) < 0.05


def test_the_maximum_of_a_collapse_is_where_its_curve_is_highest():
    x = np.linspace(0, 1, 12)
    y = stats.norm.cdf((x - 0.35) / 0.05) - 0.3 * x
    part = collapses.collapses(Points(x, (y - y.max()) / y.std(), np.full(12, 1e-5), 24))
    fine = np.linspace(0, 1, 4001)
    nodes = np.argsort(part.log)[-300:]
    f, h = part._losses(nodes, fine)
    at = np.abs(fine - part.first[nodes, None]).argmin(axis=1)
    row = np.arange(len(nodes))
    # Where the heights a and b are such that the maximum is at `first`, both slopes cancel there.
    slopes = [np.gradient(v, fine, axis=1)[row, at] for v in (f, h)]
    straight = part.shape[nodes] == collapses.STRAIGHT
    assert (slopes[0][~straight] < 0).all()
    assert (slopes[1] > 0).all()
    assert np.median(part.first[nodes]) == pytest.approx(
        fine[np.argmax(stats.norm.cdf((fine - 0.35) / 0.05) - 0.3 * fine)], abs=0.03
    )


def test_a_skewed_dome_has_its_top_at_zero_distance_and_one_curvature():
    d = np.linspace(-0.4, 0.4, 801)[None]
    values = domes.DOMES.losses(d)[0]
    assert np.array_equal(domes.DOMES.own_losses(np.repeat(d, len(values), axis=0)), values)
    assert (values[:, 400] == 0).all()
    assert (np.diff(values[:, 400:], axis=1) >= -1e-12).all()
    assert (np.diff(values[:, :401], axis=1) <= 1e-12).all()
    assert domes.DOMES.weight.sum() == pytest.approx(1)


def test_finer_domes_keep_the_prior():
    few = domes.DOMES.take(np.arange(12))
    finer = few.finer()
    assert len(finer.kind) > len(few.kind)
    assert finer.weight.sum() == pytest.approx(few.weight.sum())
    assert set(finer.skew[finer.kind == domes.BELL]) <= {0.0}


def test_kinds_have_prior_probabilities_that_add_up():
    assert sum(probability for probability, _ in KINDS) == pytest.approx(1)


@pytest.mark.parametrize("top", [2.6, 3.3, 4.48])
def test_a_gaussian_is_recognised_and_its_maximum_found_between_two_points(top):
    x = np.linspace(0, 8, 9)
    y = 0.1 + 0.83 * np.exp(-0.5 * ((x - top) / 1.5) ** 2)
    drawn = draw_curves(x, y + np.random.default_rng(1).normal(0, 5e-4, 9), np.full(9, 2.5e-7), 16)
    low, high = interval(drawn)
    assert low <= top <= high
    assert high - low < 0.1


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
