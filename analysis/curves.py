"""Curves through a few noisy points: a Gaussian process with its hyperparameters drawn, not fitted.

Why not one fitted kernel: nine points leave smoothness, length scale and asymmetry open, and a
fitted kernel pretends they are known. Domes in ε are steep on one side, so besides amplitude,
length scale, smoothness (RBF, Matérn 5/2, Matérn 3/2) and noise, a warp of the axis is drawn:
logarithmic, or with a knee, left of which the axis runs faster or slower, most often near the top.

How: importance sampling from a Sobol design of hyperparameters, refined once around what fits
(population Monte Carlo, Cappé et al. 2004, with the balance heuristic of Veach & Guibas 1995);
amplitude and noise are summed over a grid, which one eigendecomposition makes cheap. A curve is
drawn for each by Matheron's rule. scikit-learn's Gaussian process takes one setting at a time and
would need seconds where this needs tens of milliseconds; the tests hold it to scikit-learn's
answer.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import chi2, qmc

Array = np.ndarray

GRID = 241  # points of a drawn curve over the range
DRAWS = 1000

KERNELS = ("rbf", "matern52", "matern32")
LENGTHS = np.geomspace(0.08, 4.0, 14)  # of the warped range, which is 1 long
AMPLITUDES = np.geomspace(0.1, 30.0, 11)  # of the standard deviation of the points
LEVEL = 25.0  # prior variance of the curve's level, in units of the amplitude's

_KERNEL_PRIOR = np.array([0.25, 0.4, 0.35])
_LOG_WARP_PRIOR = 0.1  # the rest has a knee
_LOG_WARP_MOST = 25.0
_KNEE_MOST = 8.0  # the axis left of the knee runs up to 8 times as fast as right of it
_KNEE_AT_TOP_PRIOR = 0.7  # the knee lies within 1.5 grid steps of the highest point, or anywhere
_KNEE_RIGHT_PRIOR = 0.15  # or, with this prior probability, slower
_DESIGN = 512  # Sobol points, and as many again around the best of them
_STEP = np.array([0.03, 0.06])  # of the second sample, in quantiles of the two warp parameters
_TEMPER = 0.5
_NOISE_NODES = 5
_LEAST_NOISE = 1e-7  # of the points' variance, for numerical safety
_FINE, _BANK = 241, 512  # prior curves: points, and number of each kernel and length scale


@dataclass(frozen=True)
class _Settings:
    """Hyperparameters of M candidates, each array (M,)."""

    kernel: Array  # position in KERNELS
    length: Array  # position in LENGTHS
    log_warp: Array  # bool
    first: Array  # quantile in [0, 1] of the log warp's strength, or of the knee's place
    second: Array  # quantile of the knee's ratio

    def __getitem__(self, at: Array) -> _Settings:
        return _Settings(*(getattr(self, name)[at] for name in self.__dataclass_fields__))

    def __add__(self, other: _Settings) -> _Settings:
        names = self.__dataclass_fields__
        return _Settings(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in names))

    def warp(self, x: Array, top: tuple[float, float]) -> Array:
        """The warped places (M, P) of x (P,), both in [0, 1]; `top` is where the maximum may be."""
        strength = np.expm1(self.first * np.log1p(_LOG_WARP_MOST))[:, None] + 1e-6
        at_top = top[0] + (top[1] - top[0]) * self.first / _KNEE_AT_TOP_PRIOR
        elsewhere = (self.first - _KNEE_AT_TOP_PRIOR) / (1 - _KNEE_AT_TOP_PRIOR)
        near = self.first < _KNEE_AT_TOP_PRIOR
        knee = np.where(near, at_top, 0.03 + 0.94 * elsewhere)[:, None]
        power = (self.second - _KNEE_RIGHT_PRIOR) / (1 - _KNEE_RIGHT_PRIOR)
        ratio = np.exp(power * np.log(_KNEE_MOST))[:, None]
        bent = np.where(x < knee, ratio * x, ratio * knee + x - knee) / (ratio * knee + 1 - knee)
        return np.where(self.log_warp[:, None], np.log1p(strength * x) / np.log1p(strength), bent)

    def covariance(self, u: Array, v: Array) -> Array:
        """Unit-amplitude covariances (M, P, Q) between warped places u (M, P) and v (M, Q)."""
        distance = np.abs(u[:, :, None] - v[:, None, :]) / LENGTHS[self.length][:, None, None]
        out = np.empty_like(distance)
        for k, name in enumerate(KERNELS):
            mine = self.kernel == k
            out[mine] = correlation(name, distance[mine])
        return out + LEVEL


@dataclass(frozen=True)
class _Fit:
    """Candidates' eigensystems and log scores, (M, amplitudes, noises)."""

    settings: _Settings
    places: Array  # (M, P)
    values: Array  # (M, P)
    vectors: Array  # (M, P, P)
    score: Array


def correlation(kernel: str, distance: Array) -> Array:
    """Stationary correlation at a distance in length scales (Rasmussen & Williams 2006, ch. 4)."""
    if kernel == "rbf":
        return np.asarray(np.exp(-0.5 * distance**2))
    if kernel == "matern52":
        d = np.sqrt(5.0) * distance
        return np.asarray((1 + d + d * d / 3) * np.exp(-d))
    d = np.sqrt(3.0) * distance
    return np.asarray((1 + d) * np.exp(-d))


def draw_curves(
    x: Array, means: Array, variances: Array, dof: int, rng_seed: int = 0
) -> tuple[Array, Array, Array]:
    """Draw curves from the posterior given point means.

    Args:
        x: (P,) sorted places, any unit.
        means: (P,) values there.
        variances: (P,) estimated squared standard errors of the means.
        dof: degrees of freedom of these estimates; 0 where there are none.
        rng_seed: of the draws; same seed, same curves.

    Returns:
        grid (GRID,), curves (DRAWS, GRID), posterior mean (GRID,).
    """
    rng = np.random.default_rng(rng_seed)
    unit = (x - x[0]) / np.ptp(x)
    centre, spread = means.mean(), max(float(means.std()), 1e-9)
    y = (means - centre) / spread
    # Relative precision of the points, and what their common scale may be.
    precision = np.sqrt(1.0 / np.maximum(variances / spread**2, _LEAST_NOISE))
    noise = _noise_nodes(dof)
    if dof == 0:
        precision = np.ones(len(x))

    top = _top(unit, means)
    first = _score(_design(), unit, top, y, precision, noise)
    second, log_density = _refine(first, rng)
    more = _score(second, unit, top, y, precision, noise)
    settings = first.settings + second
    score = np.concatenate([first.score, more.score]) - log_density[:, None, None]

    probability = np.exp(score - score.max()).ravel()
    candidate, a, s = np.unravel_index(_pick(probability, DRAWS, rng), score.shape)
    values = np.concatenate([first.values, more.values])[candidate]  # (D, P)
    vectors = np.concatenate([first.vectors, more.vectors])[candidate]  # (D, P, P)
    used, position = np.unique(candidate, return_inverse=True)
    at_grid = settings[used].warp(np.linspace(0.0, 1.0, GRID), top)
    at_points = settings[used].warp(unit, top)
    cross = settings[used].covariance(at_grid, at_points)[position] * precision  # (D, GRID, P)
    a2, s2 = AMPLITUDES[a, None] ** 2, noise[s, None]
    places = np.concatenate([at_grid, at_points], axis=1)[position]
    path = np.sqrt(a2) * _prior_curves(settings[candidate], places, rng)
    error = rng.standard_normal((DRAWS, len(x))) * np.sqrt(s2) / precision

    def gain(residual: Array) -> Array:
        """Covariance of grid and points times inverse covariance of points times residual."""
        rotated = np.einsum("dpq,dp->dq", vectors, precision * residual) / (a2 * values + s2)
        return np.asarray(a2 * np.einsum("dgp,dpq,dq->dg", cross, vectors, rotated, optimize=True))

    # Matheron: prior curve + gain · (data − prior curve at the points − noise).
    curves = path[:, :GRID] + gain(y - path[:, GRID:] - error)
    mean = gain(np.broadcast_to(y, error.shape)).mean(axis=0)
    return np.linspace(x[0], x[-1], GRID), centre + spread * curves, centre + spread * mean


@lru_cache(maxsize=1)
def _design() -> _Settings:
    q = qmc.Sobol(5, seed=7).random(_DESIGN).T
    kernel = np.searchsorted(np.cumsum(_KERNEL_PRIOR)[:-1], q[0])
    return _Settings(kernel, (q[1] * len(LENGTHS)).astype(int), q[2] < _LOG_WARP_PRIOR, q[3], q[4])


def _top(unit: Array, means: Array) -> tuple[float, float]:
    """The stretch within 1.5 grid steps of the highest point."""
    best = int(np.argmax(means))
    around = unit[max(best - 1, 0) : best + 2]
    step = 1.5 * float(np.diff(around).max())
    return max(0.02, float(unit[best]) - step), min(0.98, float(unit[best]) + step)


def _score(
    settings: _Settings,
    unit: Array,
    top: tuple[float, float],
    y: Array,
    precision: Array,
    noise: Array,
) -> _Fit:
    """Log marginal likelihoods. Whitening by precision makes the noise equal over points."""
    places = settings.warp(unit, top)
    covariance = precision[:, None] * settings.covariance(places, places) * precision
    values, vectors = np.linalg.eigh(covariance)
    z2 = np.einsum("mpq,p->mq", vectors, precision * y) ** 2
    a2 = AMPLITUDES[:, None, None] ** 2
    scale = a2 * np.maximum(values, 0.0)[:, None, None, :] + noise[:, None]
    return _Fit(
        settings,
        places,
        np.maximum(values, 0.0),
        vectors,
        -0.5 * (z2[:, None, None, :] / scale + np.log(scale)).sum(axis=-1),
    )


def _refine(fit: _Fit, rng: np.random.Generator) -> tuple[_Settings, Array]:
    """A second sample around what fits, and the log density of both samples over the prior's."""
    most = fit.score.max(axis=(1, 2))
    log_evidence = most + np.log(np.exp(fit.score - most[:, None, None]).sum(axis=(1, 2)))
    weight = np.exp(_TEMPER * (log_evidence - log_evidence.max()))
    weight /= weight.sum()
    old = fit.settings
    parent = old[_pick(weight, _DESIGN, rng)]
    moved = [
        1 - np.abs(1 - np.abs(q + h * rng.standard_normal(_DESIGN)))  # reflected into [0, 1]
        for q, h in zip((parent.first, parent.second), _STEP, strict=True)
    ]
    new = _Settings(parent.kernel, parent.length, parent.log_warp, *moved)
    prior = _KERNEL_PRIOR[old.kernel] / len(LENGTHS)
    prior = prior * np.where(old.log_warp, _LOG_WARP_PRIOR, 1 - _LOG_WARP_PRIOR)
    both = old + new
    code, old_code = (2 * (100 * s.kernel + s.length) + s.log_warp for s in (both, old))
    density = np.zeros(len(code))
    for c in np.unique(old_code):  # proposals never change kernel, length scale or kind of warp
        mine, theirs = code == c, old_code == c
        near = _bump(both.first[mine], old.first[theirs], _STEP[0])
        near *= _bump(both.second[mine], old.second[theirs], _STEP[1])
        density[mine] = near @ (weight[theirs] / prior[theirs])
    return new, np.log(0.5 + 0.5 * density)


def _bump(at: Array, centre: Array, width: float) -> Array:
    """Reflected normal density (len(at), len(centre)) on [0, 1]."""
    images = np.stack([centre, -centre, 2 - centre])
    z = (at[:, None, None] - images) / width
    return np.asarray(np.exp(-0.5 * z * z).sum(axis=1) / (width * np.sqrt(2 * np.pi)))


def _pick(probability: Array, count: int, rng: np.random.Generator) -> Array:
    """Systematic resampling: `count` positions in proportion to unnormalised probabilities."""
    total = np.cumsum(probability)
    wanted = (np.arange(count) + rng.uniform()) / count * total[-1]
    return np.minimum(np.searchsorted(total, wanted), len(probability) - 1)


def _noise_nodes(dof: int) -> Array:
    """Equally likely factors on the estimated noise variances; a wide guess at dof 0."""
    if dof == 0:
        return np.geomspace(1e-4, 1.0, _NOISE_NODES)
    at = (np.arange(_NOISE_NODES) + 0.5) / _NOISE_NODES
    return np.asarray(dof / chi2.ppf(at, dof))


def _prior_curves(settings: _Settings, places: Array, rng: np.random.Generator) -> Array:
    """A unit-amplitude prior curve a row at warped places (D, Q), by interpolation, (D, Q)."""
    rows = len(places)
    kind = (settings.kernel * len(LENGTHS) + settings.length)[:, None]
    curve = rng.integers(0, _BANK, rows)[:, None]
    sign = rng.choice([-1.0, 1.0], rows)[:, None]
    at = places * (_FINE - 1)
    left = np.minimum(at.astype(int), _FINE - 2)
    share = at - left
    with _BANK_LOCK:
        bank = _bank()
    inner = bank[kind, curve, left] * (1 - share) + bank[kind, curve, left + 1] * share
    return np.asarray(sign * inner)


_BANK_LOCK = threading.Lock()


@lru_cache(maxsize=1)
def _bank() -> Array:
    """Prior curves of every kernel and length scale, (kinds, _BANK, _FINE)."""
    rng = np.random.default_rng(1)
    u = np.linspace(0.0, 1.0, _FINE)
    distance = np.abs(u[:, None] - u)
    made = []
    for name in KERNELS:
        for length in LENGTHS:
            covariance = correlation(name, distance / length) + LEVEL
            # Not Cholesky: the jitter it needs is white noise, which moves the maximum of a curve.
            values, vectors = np.linalg.eigh(covariance)
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            made.append((root @ rng.standard_normal((_FINE, _BANK))).T.astype(np.float32))
    return np.stack(made)
