"""Draws from the posterior of curves, given a few noisy points.

A curve is a level, a shape of `analysis.response.shapes` times a height, and a deviation from it.
The deviation is a Gaussian process whose standard deviation is τ + κ · (distance of the points
below the maximum); a shape that fits badly where the loss fails thus does not bend the curve near
its maximum. A priori, a curve has a deviation with probability one half; the points decide
(`analysis.response.smc`). Level and height are integrated out in closed form. The noise has the
uncertainty of its estimate.

A single fitted Gaussian process is worse: ten points do not determine the shape, but a fitted
kernel treats it as known. A kernel also does not encode that a curve has a single maximum; its
intervals are several times too long on smooth curves and miss the maximum where the curvature
jumps. docs/statistics.md has the measurements.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

from analysis.response.shapes import FAMILIES, MAX_DIM, MIRROR_PROBABILITY, peak_position
from analysis.response.smc import FloatArray, IntArray, Particles, sample

GRID = 241  # points of a drawn curve over the range
DRAWS = 1000  # curves

HEIGHT = 1.5  # prior scale (half normal) of the height, in standard deviations of the points
DEVIATION_PROBABILITY = 0.5  # prior probability of a deviation from the shape
TAUS = (0.003, 0.01, 0.03, 0.1, 0.3)  # in standard deviations of the points
KAPPAS = (0.0, 0.03, 0.1, 0.3)  # per distance below the highest point
LENGTHS = (0.15, 0.35)  # length scale of the deviation (Matérn 5/2), in units of the range
_SETTINGS = [(t, k, n) for t in TAUS for k in KAPPAS for n in LENGTHS]
_SIZES = (96, 48)  # particles per family without and with deviation
_PRIOR_DRAWS = 4  # prior draws per particle
_NEW_SETTING_PROBABILITY = 0.3  # that a move proposes another setting
_MIN_NOISE = 1e-7  # of the points' variance, for numerical stability
_GUESSED_NOISE = (0.1, 1.5)  # without an estimate: standard deviation, and the SD of its log
_PATHS = 1024  # prior paths of the deviation per length scale


@dataclass(frozen=True)
class CurveDraws:
    """Curves from the posterior, and the positions of their maxima.

    Attributes:
        grid: positions, shape (GRID,), in the unit of x.
        curves: shape (DRAWS, GRID), in the unit of the means.
        middle: pointwise median, shape (GRID,). (A shape that is narrow between two points may
            have any height there, so a mean would be useless.)
        peaks: position of each curve's maximum, shape (DRAWS,); an end of the grid where the curve
            is highest there.
    """

    grid: FloatArray
    curves: FloatArray
    middle: FloatArray
    peaks: FloatArray


def draw_curves(
    x: FloatArray, means: FloatArray, variances: FloatArray, dof: int, rng_seed: int = 0
) -> CurveDraws:
    """Draw curves from the posterior given point means.

    Args:
        x: sorted positions, shape (P,), in any unit.
        means: values at x, shape (P,).
        variances: estimated squared standard errors of the means, shape (P,).
        dof: degrees of freedom of these estimates; 0 if there are none.
        rng_seed: seed of the draws; the same seed gives the same curves.
    """
    rng = np.random.default_rng(rng_seed)
    centre, spread = float(means.mean()), max(float(means.std()), 1e-9)
    noise = np.full(len(x), _GUESSED_NOISE[0] ** 2) if dof == 0 else variances / spread**2
    unit = (x - x[0]) / np.ptp(x)
    model = CurveModel(unit, (means - centre) / spread, np.maximum(noise, _MIN_NOISE), dof)
    particles = sample(model, model.start(rng), model.sizes, model.prior, DRAWS, rng)
    curves, peaks = model.curves(particles, rng)
    return CurveDraws(
        grid=np.linspace(x[0], x[-1], GRID),
        curves=centre + spread * curves,
        middle=centre + spread * np.median(curves, axis=0),
        peaks=x[0] + np.ptp(x) * peaks,
    )


class CurveModel:
    """Posterior of a curve's parameters given point means; a target of `smc.sample`.

    Stratum 2f is family f without deviation, stratum 2f + 1 is family f with one. A particle's
    `setting` is 0 without deviation, else 1 + the index of its (τ, κ, length scale).

    Args:
        x: positions from 0 to 1, shape (P,).
        y: standardised means, shape (P,).
        noise: their estimated variances, shape (P,).
        dof: degrees of freedom of these estimates; 0 for a guess.

    Attributes:
        inverses: inverse covariance of the points per setting, shape (settings, P, P).
        precisions: the same with the level projected out.
        sizes: particles per stratum, shape (strata,).
        prior: prior probability per stratum, shape (strata,).
    """

    def __init__(self, x: FloatArray, y: FloatArray, noise: FloatArray, dof: int) -> None:
        self.x, self.y, self.noise, self.dof = x, y, noise, dof
        self.depth = y.max() - y
        covariances = [np.diag(noise)]
        for tau, kappa, length in _SETTINGS:
            sd = tau + kappa * self.depth
            covariances.append(
                np.diag(noise) + sd[:, None] * sd * matern(np.abs(x[:, None] - x) / length)
            )
        self.inverses = np.linalg.inv(np.stack(covariances))
        ones = self.inverses.sum(axis=2)
        self.total = ones.sum(axis=1)
        # Integrating the level over a flat prior projects its direction out.
        self.precisions = self.inverses - (
            ones[:, :, None] * ones[:, None, :] / self.total[:, None, None]
        )
        self._weighted_y = self.precisions @ y
        self._misfit = self._weighted_y @ y
        self._constant = -0.5 * (
            np.linalg.slogdet(np.stack(covariances)).logabsdet + np.log(self.total)
        )
        self.sizes: IntArray = np.tile(_SIZES, len(FAMILIES))
        weight = np.array([f.weight for f in FAMILIES])
        deviation = [1 - DEVIATION_PROBABILITY, DEVIATION_PROBABILITY]
        self.prior: FloatArray = np.outer(weight / weight.sum(), deviation).ravel()
        columns = np.arange(MAX_DIM)
        self._used = np.array([(columns < f.dim).astype(float) for f in FAMILIES])

    def start(self, rng: np.random.Generator) -> Particles:
        """Draw particles from the prior and evaluate them, `_PRIOR_DRAWS` per particle.

        Args:
            rng: source of the draws.
        """
        stratum = np.repeat(np.arange(len(self.sizes)), _PRIOR_DRAWS * self.sizes)
        n = len(stratum)
        skewed = np.array([f.skewed for f in FAMILIES])[stratum // 2]
        if self.dof > 0:
            log_noise = 0.5 * np.log(self.dof / rng.chisquare(self.dof, n))
        else:
            log_noise = _GUESSED_NOISE[1] * rng.standard_normal(n)
        particles = Particles(
            stratum,
            rng.standard_normal((n, MAX_DIM)),
            skewed & (rng.uniform(size=n) < MIRROR_PROBABILITY),
            log_noise,
            np.where(stratum % 2, rng.integers(1, len(_SETTINGS) + 1, n), 0),
            *(np.empty(n) for _ in range(3)),
        )
        self.evaluate(particles)
        return particles

    def used_columns(self, stratum: IntArray) -> FloatArray:
        """Columns of z that each stratum uses, (n, MAX_DIM) of 0 and 1."""
        return np.asarray(self._used[stratum // 2])

    def propose_setting(self, particles: Particles, rng: np.random.Generator) -> IntArray:
        """A new setting for some of the particles that have a deviation."""
        n = len(particles)
        renewed = (particles.stratum % 2 == 1) & (rng.uniform(size=n) < _NEW_SETTING_PROBABILITY)
        return np.where(renewed, rng.integers(1, len(_SETTINGS) + 1, n), particles.setting)

    def log_prior(self, particles: Particles) -> FloatArray:
        """Log density: standard normal z, scaled inverse χ² noise variance."""
        z = particles.z * self.used_columns(particles.stratum)
        s = particles.log_noise
        if self.dof > 0:
            noise = -self.dof * (s + 0.5 * np.exp(-2 * s))
        else:
            noise = -0.5 * (s / _GUESSED_NOISE[1]) ** 2
        return np.asarray(noise - 0.5 * (z * z).sum(axis=1))

    def shapes(self, particles: Particles, x: FloatArray) -> FloatArray:
        """Shapes with mean 0 and standard deviation 1 over the points.

        Args:
            particles: n of them, sorted by stratum.
            x: positions; empty for the points themselves.

        Returns:
            shape (n, len(x)), or (n, P) for an empty x; NaN where the shape is constant over the
            points.
        """
        positions = np.concatenate([self.x, x])
        values = np.empty((len(particles), len(positions)))
        family = particles.stratum // 2
        ends = np.searchsorted(family, np.arange(len(FAMILIES) + 1))
        for f, a, b in zip(FAMILIES, ends[:-1], ends[1:], strict=True):
            if a < b:
                mirrored = particles.mirrored[a:b, None]
                at = np.where(mirrored, 1 - positions, positions) if f.skewed else positions
                values[a:b] = f.shape(particles.z[a:b], at)
        points = values[:, : len(self.x)]
        values -= points.mean(axis=1, keepdims=True)
        sd = np.sqrt((points * points).mean(axis=1, keepdims=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            values /= np.where(sd > 1e-9, sd, np.nan)
        return values if len(x) == 0 else values[:, len(self.x) :]

    def evaluate(self, particles: Particles) -> None:
        """Set the log likelihood with level and height integrated out."""
        g = self.shapes(particles, np.empty(0))
        setting, s = particles.setting, particles.log_noise
        gg = (np.matmul(self.precisions[setting], g[:, :, None])[:, :, 0] * g).sum(axis=1)
        gy = (g * self._weighted_y[setting]).sum(axis=1)
        shrink = np.exp(-2 * s)
        precision = gg * shrink + HEIGHT**-2
        height = gy * shrink / precision
        score = (
            self._constant[setting]
            - (len(self.x) - 1) * s
            - 0.5 * self._misfit[setting] * shrink
            - 0.5 * np.log(HEIGHT**2 * precision)
            + 0.5 * height**2 * precision
            + np.log(2.0)
            + log_ndtr(height * np.sqrt(precision))
        )
        particles.score[:] = np.where(np.isfinite(score), score, -1e12)
        particles.height[:], particles.precision[:] = height, precision

    def curves(
        self, particles: Particles, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Draw one curve per particle.

        Args:
            particles: n of them.
            rng: source of the draws.

        Returns:
            curves of shape (n, GRID) and the positions of their maxima, shape (n,), in [0, 1].
        """
        n, grid = len(particles), np.linspace(0.0, 1.0, GRID)
        at_points = self.shapes(particles, np.empty(0))
        sd = 1 / np.sqrt(particles.precision)
        low = ndtr(-particles.height / sd)  # heights are positive
        u = np.clip(low + (1 - low) * rng.uniform(size=n), 1e-300, 1 - 1e-16)
        height = np.maximum(particles.height + sd * ndtri(u), 0.0)[:, None]
        setting, scale = particles.setting, np.exp(particles.log_noise)[:, None]
        residual = self.y - height * at_points
        level = np.einsum("dp,dpq->d", residual, self.inverses[setting]) / self.total[setting]
        level += scale[:, 0] * rng.standard_normal(n) / np.sqrt(self.total[setting])
        curves = height * self.shapes(particles, grid) + level[:, None]
        self._add_deviations(curves, residual - level[:, None], setting, scale, rng)
        peaks = _maxima(grid, curves)
        # A kinked maximum between two points of the grid is known exactly from its parameter.
        exact = np.array([f.peaked for f in FAMILIES])[particles.stratum // 2] & (setting == 0)
        peaks[exact] = np.clip(peak_position(particles.z[exact, 0]), 0.0, 1.0)
        return curves, peaks

    def _add_deviations(
        self,
        curves: FloatArray,
        residual: FloatArray,
        setting: IntArray,
        scale: FloatArray,
        rng: np.random.Generator,
    ) -> None:
        """Add a posterior draw of the deviation to each curve that has one, in place.

        By Matheron's rule: prior path + gain · (residual − path at the points − noise).

        Args:
            curves: shape (n, GRID).
            residual: means minus curves at the points, shape (n, P).
            setting: shape (n,).
            scale: factor on the noise's standard deviation, shape (n, 1).
            rng: source of the draws.
        """
        grid = np.linspace(0.0, 1.0, GRID)
        tau, kappa, length = np.array([(0.0, 0.0, LENGTHS[0]), *_SETTINGS]).T[:, setting]
        on_points = (tau[:, None] + kappa[:, None] * self.depth) * scale
        depth = np.interp(grid, self.x, self.depth)
        on_grid = (tau[:, None] + kappa[:, None] * depth) * scale
        fraction = self.x * (GRID - 1)
        left = np.minimum(fraction.astype(int), GRID - 2)
        fraction = fraction - left
        for k, length_scale in enumerate(LENGTHS):
            rows = np.flatnonzero((length == length_scale) & (setting > 0))
            if len(rows) == 0:
                continue
            with _PATHS_LOCK:
                path = _prior_paths(k)[rng.integers(0, _PATHS, len(rows))].astype(float)
            at_points = path[:, left] * (1 - fraction) + path[:, left + 1] * fraction
            error = scale[rows] * np.sqrt(self.noise) * rng.standard_normal(at_points.shape)
            off = residual[rows] - on_points[rows] * at_points - error
            off = np.einsum("dp,dpq->dq", off, self.inverses[setting[rows]]) / scale[rows] ** 2
            correlation = matern(np.abs(self.x[:, None] - grid) / length_scale)
            curves[rows] += on_grid[rows] * (path + (off * on_points[rows]) @ correlation)


def matern(distance: FloatArray) -> FloatArray:
    """Matérn correlation with ν = 5/2 at distances in units of the length scale."""
    r = np.sqrt(5.0) * distance
    return np.asarray((1 + r + r * r / 3) * np.exp(-r))


def _maxima(grid: FloatArray, curves: FloatArray) -> FloatArray:
    """Positions of the curves' maxima, refined by a parabola through the three highest points."""
    top = curves.argmax(axis=1)
    positions = grid[top].astype(float)
    rows = np.flatnonzero((top > 0) & (top < len(grid) - 1))
    left, mid, right = (curves[rows, top[rows] + k] for k in (-1, 0, 1))
    bend = left - 2 * mid + right
    shift = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    positions[rows] += shift * (grid[1] - grid[0])
    return np.asarray(positions)


_PATHS_LOCK = threading.Lock()  # lru_cache may compute twice where threads meet


@lru_cache(maxsize=len(LENGTHS))
def _prior_paths(length: int) -> NDArray[np.float32]:
    """Prior paths with unit variance for the length scale of this index, (_PATHS, GRID)."""
    u = np.linspace(0.0, 1.0, GRID)
    values, vectors = np.linalg.eigh(matern(np.abs(u[:, None] - u) / LENGTHS[length]))
    # Not Cholesky: the jitter that it needs is white noise, which moves the maximum of a curve.
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    draws = np.random.default_rng(length).standard_normal((GRID, _PATHS))
    return np.asarray((root @ draws).T.astype(np.float32))
