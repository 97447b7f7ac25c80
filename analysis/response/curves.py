"""Curves through a few noisy points, drawn from what domes may look like given the points.

A curve is a level, a dome of `analysis.response.shapes` with a height, and a deviation from it: a Gaussian
process whose standard deviation is τ + κ · (how far the points lie below the top). So a shape that
is wrong where the loss fails does not bend the curve at the top. A priori a curve is a dome without
deviation or one with, half each; the points decide (`analysis.response.smc`). Level and height are
integrated out in closed form, the noise has the uncertainty that its estimate has.

Why so, and not one fitted Gaussian process: ten points leave the shape open, and a fitted kernel
pretends that it is known; a kernel also knows nothing of domes, so its intervals are several times
longer than need be on smooth ones and miss the top where the curvature jumps. docs/statistics.md
has the numbers.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

from analysis.response.shapes import FAMILIES, MIRRORED, MOST_PARAMETERS, place
from analysis.response.smc import Particles, sample

Array = np.ndarray

GRID = 241  # points of a drawn curve over the range
DRAWS = 1000

HEIGHT = 1.5  # prior scale (half normal) of the height, in standard deviations of the points
DEVIATES = 0.5  # prior probability of a deviation from the dome
TAUS = (0.003, 0.01, 0.03, 0.1, 0.3)  # of the points' standard deviation
KAPPAS = (0.0, 0.03, 0.1, 0.3)  # of the distance below the highest point
LENGTHS = (0.15, 0.35)  # of the deviation (Matérn 5/2), of the range
_SETTINGS = [(t, k, n) for t in TAUS for k in KAPPAS for n in LENGTHS]
_SIZES = (96, 48)  # particles of a family without and with deviation
_PRIOR_DRAWS = 4  # times as many at the start
_NEW_SETTING = 0.3  # probability that a move proposes another setting
_LEAST_NOISE = 1e-7  # of the points' variance, for numerical safety
_GUESS = (0.1, 1.5)  # without an estimate: noise of a tenth, give or take e^±1.5
_BANK = 1024  # prior curves of each length


@dataclass(frozen=True)
class Drawn:
    """Curves from the posterior, and where their tops are.

    Attributes:
        grid: (GRID,) places.
        curves: (DRAWS, GRID).
        middle: (GRID,) pointwise median. (A dome that is narrow between two points may be of any
            height, so the mean is of no use.)
        places: (DRAWS,) place of each curve's maximum; an end of the grid where it is there.
    """

    grid: Array
    curves: Array
    middle: Array
    places: Array


def draw_curves(x: Array, means: Array, variances: Array, dof: int, rng_seed: int = 0) -> Drawn:
    """Draw curves from the posterior given point means.

    Args:
        x: (P,) sorted places, any unit.
        means: (P,) values there.
        variances: (P,) estimated squared standard errors of the means.
        dof: degrees of freedom of these estimates; 0 where there are none.
        rng_seed: of the draws; same seed, same curves.
    """
    rng = np.random.default_rng(rng_seed)
    centre, spread = float(means.mean()), max(float(means.std()), 1e-9)
    noise = np.full(len(x), _GUESS[0] ** 2) if dof == 0 else variances / spread**2
    unit = (x - x[0]) / np.ptp(x)
    model = Model(unit, (means - centre) / spread, np.maximum(noise, _LEAST_NOISE), dof)
    found = sample(model, model.start(rng), model.sizes, model.prior, DRAWS, rng)
    curves, places = model.curves(found, rng)
    return Drawn(
        grid=np.linspace(x[0], x[-1], GRID),
        curves=centre + spread * curves,
        middle=centre + spread * np.median(curves, axis=0),
        places=x[0] + np.ptp(x) * places,
    )


class Model:
    """Likelihood of `Particles` given point means; stratum 2f is family f, 2f + 1 deviates.

    Args:
        x: (P,) places from 0 to 1.
        y: (P,) standardised means.
        noise: (P,) their estimated variances.
        dof: degrees of freedom of these estimates, 0 for a guess.
    """

    def __init__(self, x: Array, y: Array, noise: Array, dof: int) -> None:
        self.x, self.y, self.noise, self.dof = x, y, noise, dof
        self.depth = y.max() - y
        covariances = [np.diag(noise)]
        for tau, kappa, length in _SETTINGS:
            sd = tau + kappa * self.depth
            covariances.append(
                np.diag(noise) + sd[:, None] * sd * matern(np.abs(x[:, None] - x) / length)
            )
        self.inverses = np.linalg.inv(np.stack(covariances))  # (settings, P, P)
        ones = self.inverses.sum(axis=2)
        self.total = ones.sum(axis=1)
        # The level is integrated out over a flat prior: its direction is projected away.
        self.precisions = self.inverses - (
            ones[:, :, None] * ones[:, None, :] / self.total[:, None, None]
        )
        self._towards = self.precisions @ y
        self._misfit = self._towards @ y
        self._constant = -0.5 * (
            np.linalg.slogdet(np.stack(covariances)).logabsdet + np.log(self.total)
        )
        self.sizes = np.tile(_SIZES, len(FAMILIES))
        weight = np.array([f.weight for f in FAMILIES])
        self.prior = np.outer(weight / weight.sum(), [1 - DEVIATES, DEVIATES]).ravel()
        columns = np.arange(MOST_PARAMETERS)
        self._used = np.array([(columns < f.dim).astype(float) for f in FAMILIES])

    def start(self, rng: np.random.Generator) -> Particles:
        """Prior draws."""
        stratum = np.repeat(np.arange(len(self.sizes)), _PRIOR_DRAWS * self.sizes)
        n = len(stratum)
        skew = np.array([f.skew for f in FAMILIES])[stratum // 2]
        if self.dof > 0:
            log_noise = 0.5 * np.log(self.dof / rng.chisquare(self.dof, n))
        else:
            log_noise = _GUESS[1] * rng.standard_normal(n)
        out = Particles(
            stratum,
            rng.standard_normal((n, MOST_PARAMETERS)),
            skew & (rng.uniform(size=n) < MIRRORED),
            log_noise,
            np.where(stratum % 2, rng.integers(1, len(_SETTINGS) + 1, n), 0),
            *(np.empty(n) for _ in range(3)),
        )
        self.evaluate(out)
        return out

    def used(self, stratum: Array) -> Array:
        """Which columns of z a stratum uses."""
        return np.asarray(self._used[stratum // 2])

    def propose_setting(self, particles: Particles, rng: np.random.Generator) -> Array:
        """Another setting now and then, for those that have one."""
        n = len(particles)
        new = (particles.stratum % 2 == 1) & (rng.uniform(size=n) < _NEW_SETTING)
        return np.where(new, rng.integers(1, len(_SETTINGS) + 1, n), particles.setting)

    def log_prior(self, particles: Particles) -> Array:
        """Standard normal z; scaled inverse χ² of the noise variance."""
        z = particles.z * self.used(particles.stratum)
        s = particles.log_noise
        if self.dof > 0:
            noise = -self.dof * (s + 0.5 * np.exp(-2 * s))
        else:
            noise = -0.5 * (s / _GUESS[1]) ** 2
        return np.asarray(noise - 0.5 * (z * z).sum(axis=1))

    def shapes(self, particles: Particles, x: Array) -> Array:
        """Domes (n, len(x)) with mean 0 and standard deviation 1 over the points."""
        at = np.concatenate([self.x, x])
        out = np.empty((len(particles), len(at)))
        family = particles.stratum // 2
        ends = np.searchsorted(family, np.arange(len(FAMILIES) + 1))
        for f, a, b in zip(FAMILIES, ends[:-1], ends[1:], strict=True):
            if a < b:
                mirrored = particles.mirrored[a:b, None]
                places = np.where(mirrored, 1 - at, at) if f.skew else at
                out[a:b] = f.shape(particles.z[a:b], places)
        points = out[:, : len(self.x)]
        out -= points.mean(axis=1, keepdims=True)
        sd = np.sqrt((points * points).mean(axis=1, keepdims=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            out /= np.where(sd > 1e-9, sd, np.nan)  # a shape that no point sees
        return out if len(x) == 0 else out[:, len(self.x) :]

    def evaluate(self, particles: Particles) -> None:
        """Log likelihood with level and height integrated out."""
        g = self.shapes(particles, np.empty(0))
        setting, s = particles.setting, particles.log_noise
        gg = (np.matmul(self.precisions[setting], g[:, :, None])[:, :, 0] * g).sum(axis=1)
        gy = (g * self._towards[setting]).sum(axis=1)
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

    def curves(self, particles: Particles, rng: np.random.Generator) -> tuple[Array, Array]:
        """A curve a particle, (n, GRID), and the place of its maximum, (n,)."""
        n, grid = len(particles), np.linspace(0.0, 1.0, GRID)
        at_points = self.shapes(particles, np.empty(0))
        sd = 1 / np.sqrt(particles.precision)
        low = ndtr(-particles.height / sd)  # heights are positive
        u = np.clip(low + (1 - low) * rng.uniform(size=n), 1e-300, 1 - 1e-16)
        height = np.maximum(particles.height + sd * ndtri(u), 0.0)[:, None]
        setting, scale = particles.setting, np.exp(particles.log_noise)[:, None]
        inverse = self.inverses[setting]
        residual = self.y - height * at_points
        level = np.einsum("dp,dpq->d", residual, inverse) / self.total[setting]
        level += scale[:, 0] * rng.standard_normal(n) / np.sqrt(self.total[setting])
        curves = height * self.shapes(particles, grid) + level[:, None]

        # Matheron's rule: prior path + gain · (residual − path at the points − noise).
        tau, kappa, length = np.array([(0.0, 0.0, LENGTHS[0]), *_SETTINGS]).T[:, setting]
        on_points = (tau[:, None] + kappa[:, None] * self.depth) * scale
        depth = np.interp(grid, self.x, self.depth)
        on_grid = (tau[:, None] + kappa[:, None] * depth) * scale
        for k, of in enumerate(LENGTHS):
            rows = np.flatnonzero((length == of) & (setting > 0))
            if len(rows) == 0:
                continue
            with _BANK_LOCK:
                path = _bank(k)[rng.integers(0, _BANK, len(rows))].astype(float)
            share = self.x * (GRID - 1)
            left = np.minimum(share.astype(int), GRID - 2)
            share = share - left
            seen = path[:, left] * (1 - share) + path[:, left + 1] * share
            error = scale[rows] * np.sqrt(self.noise) * rng.standard_normal(seen.shape)
            off = residual[rows] - level[rows, None] - on_points[rows] * seen - error
            off = np.einsum("dp,dpq->dq", off, inverse[rows]) / scale[rows] ** 2
            gain = (off * on_points[rows]) @ matern(np.abs(self.x[:, None] - grid) / of)
            curves[rows] += on_grid[rows] * (path + gain)
        places = _maxima(grid, curves)
        # A kinked top between two points of the grid is known from its parameter.
        exact = np.array([f.peaked for f in FAMILIES])[particles.stratum // 2] & (setting == 0)
        places[exact] = np.clip(place(particles.z[exact, 0]), 0.0, 1.0)
        return curves, places


def matern(distance: Array) -> Array:
    """Matérn correlation with ν = 5/2 at distances in units of the length scale."""
    r = np.sqrt(5.0) * distance
    return np.asarray((1 + r + r * r / 3) * np.exp(-r))


def _maxima(grid: Array, curves: Array) -> Array:
    """Places of the maxima of curves (draws, grid), refined by a parabola through the top three."""
    top = curves.argmax(axis=1)
    where = grid[top].astype(float)
    rows = np.flatnonzero((top > 0) & (top < len(grid) - 1))
    left, mid, right = (curves[rows, top[rows] + k] for k in (-1, 0, 1))
    bend = left - 2 * mid + right
    shift = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, -1.0), 0.0)
    where[rows] += shift * (grid[1] - grid[0])
    return where


_BANK_LOCK = threading.Lock()


@lru_cache(maxsize=len(LENGTHS))
def _bank(length: int) -> Array:
    """Unit-variance prior curves of a length scale, (_BANK, GRID)."""
    u = np.linspace(0.0, 1.0, GRID)
    values, vectors = np.linalg.eigh(matern(np.abs(u[:, None] - u) / LENGTHS[length]))
    # Not Cholesky: the jitter it needs is white noise, which moves the maximum of a curve.
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    draws = np.random.default_rng(length).standard_normal((GRID, _BANK))
    return np.asarray((root @ draws).T.astype(np.float32))
