"""Sequential Monte Carlo (SMC): draws particles from a mixture of models.

The sampler tempers the likelihood (Del Moral, Doucet & Jasra 2006, "Sequential Monte Carlo
samplers"). Every model ("stratum") has its own particles. They start from the model's prior; the
likelihood enters with a power β that grows from 0 to 1. Between steps they are resampled and moved
by differential evolution (ter Braak 2006), which adapts to scales and correlations. The product of
a stratum's mean weights estimates its evidence.

Models are compared by evidence only at the end: at small β a smooth model with a large error always
has more evidence, and would replace the model that fits best at β = 1. A stratum is dropped earlier
only if its evidence cannot come near the best any more.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int_]
BoolArray = NDArray[np.bool_]

_ESS_FRACTION = 0.5  # effective sample size that a step of β retains, as a fraction
_MOVES_PER_STEP = 3  # Metropolis moves after each step of β
_FINAL_MOVES = 4  # Metropolis moves of the returned particles
_EVIDENCE_GAP = 7.0  # a stratum this far below the best log evidence is dropped
_SCORE_SLACK = 2.0  # at β = 1, a stratum may still exceed its best log likelihood by this much
_MAX_STEPS = 60  # steps of β


@dataclass
class Particles:
    """Parameter values, one particle per row, sorted by stratum.

    Attributes:
        stratum: index of the model, int of shape (n,).
        z: standard normal parameters, shape (n, d); a model uses its first few columns.
        mirrored: whether the shape is mirrored, bool of shape (n,); moves leave it unchanged.
        log_noise: log of the factor on the noise's standard deviation, shape (n,).
        setting: a discrete parameter, int of shape (n,).
        score: log likelihood, shape (n,).
        height: mean of the curve's height given the other parameters, shape (n,).
        precision: precision of that height, shape (n,).
    """

    stratum: IntArray
    z: FloatArray
    mirrored: BoolArray
    log_noise: FloatArray
    setting: IntArray
    score: FloatArray
    height: FloatArray
    precision: FloatArray

    def __getitem__(self, rows: NDArray[Any]) -> Particles:
        """The particles at an index array or a boolean mask."""
        return Particles(*(getattr(self, f.name)[rows] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.stratum)

    def accept(self, mask: BoolArray, proposed: Particles) -> None:
        """Replace some particles by proposed ones, in place.

        Args:
            mask: where to replace, shape (n,).
            proposed: n particles.
        """
        for f in fields(self):
            getattr(self, f.name)[mask] = getattr(proposed, f.name)[mask]


class Target(Protocol):
    """The posterior that `sample` draws from."""

    def evaluate(self, particles: Particles) -> None:
        """Set `score`, `height` and `precision` of the particles."""

    def log_prior(self, particles: Particles) -> FloatArray:
        """Log prior density (n,) of z and log_noise, up to a constant per stratum."""

    def used_columns(self, stratum: IntArray) -> FloatArray:
        """Columns of z that each stratum uses, (n, d) of 0 and 1."""

    def propose_setting(self, particles: Particles, rng: np.random.Generator) -> IntArray:
        """Proposed settings (n,): a prior draw for some particles, unchanged for the others."""


def sample(
    target: Target,
    start: Particles,
    sizes: IntArray,
    prior: FloatArray,
    count: int,
    rng: np.random.Generator,
) -> Particles:
    """Draw particles over all strata, each stratum in proportion to prior × evidence.

    Args:
        target: the posterior.
        start: evaluated draws from the prior; their number per stratum is a multiple of `sizes`.
        sizes: particles to continue with, shape (strata,).
        prior: prior probabilities, shape (strata,).
        count: number of particles to return.
        rng: source of all draws.

    Returns:
        `count` particles, sorted by stratum.
    """
    particles, log_prior = start, np.log(prior)
    beta, evidence = np.zeros(len(sizes)), np.zeros(len(sizes))
    alive = np.ones(len(sizes), dtype=bool)
    for _ in range(_MAX_STEPS):
        active = np.flatnonzero(alive)
        counts = np.bincount(particles.stratum, minlength=len(sizes))[active]
        first = _block_starts(counts)
        best = np.maximum.reduceat(particles.score, first)
        below = particles.score - np.repeat(best, counts)
        step = _next_step(below, first, counts, sizes[active], beta[active])
        weight = np.exp(np.repeat(step, counts) * below)
        evidence[active] += np.log(np.add.reduceat(weight, first) / counts) + step * best
        beta[active] += step
        kept = [
            a + systematic_resample(weight[a : a + n], sizes[s], rng)
            for a, n, s in zip(first, counts, active, strict=True)
        ]
        particles = particles[np.concatenate(kept)]
        _move(target, particles, beta[particles.stratum], _MOVES_PER_STEP, rng)

        negligible = _negligible(particles.score, beta, log_prior + evidence, sizes, active)
        alive[active[negligible]] = False
        if negligible.any():
            particles = particles[alive[particles.stratum]]
        if beta[alive].min() >= 1:
            break
    log_weight = np.where(alive, log_prior + evidence, -np.inf)
    shares = np.bincount(
        systematic_resample(np.exp(log_weight - log_weight.max()), count, rng),
        minlength=len(sizes),
    )
    first = _block_starts(np.where(alive, sizes, 0))
    kept = [
        first[s] + np.sort(np.arange(n) * max(sizes[s], n) // n % sizes[s])
        for s, n in enumerate(shares)
        if n
    ]
    particles = particles[np.concatenate(kept)]
    _move(target, particles, np.ones(len(particles)), _FINAL_MOVES, rng)
    return particles


def systematic_resample(weight: FloatArray, count: int, rng: np.random.Generator) -> IntArray:
    """Systematic resampling.

    Args:
        weight: unnormalised weights, shape (n,).
        count: number of positions to draw.
        rng: source of the single uniform draw.

    Returns:
        sorted positions in [0, n), shape (count,), in proportion to the weights.
    """
    total = np.cumsum(weight)
    wanted = (np.arange(count) + rng.uniform()) / count * total[-1]
    return np.asarray(np.minimum(np.searchsorted(total, wanted), len(weight) - 1))


def _block_starts(counts: IntArray) -> IntArray:
    """First row of each block of consecutive rows, given the blocks' lengths."""
    return np.asarray(np.r_[0, np.cumsum(counts)[:-1]])


def _negligible(
    score: FloatArray,
    beta: FloatArray,
    log_evidence: FloatArray,
    sizes: IntArray,
    active: IntArray,
) -> BoolArray:
    """Which active strata cannot come within `_EVIDENCE_GAP` of the best evidence at β = 1."""
    counts = sizes[active]
    first = _block_starts(counts)
    remaining, current = 1 - beta[active], log_evidence[active]
    most = np.maximum.reduceat(score, first) + _SCORE_SLACK / beta[active]
    # A lower bound by Jensen's inequality: log E exp(r · score) ≥ r · E score.
    least = current + remaining * np.add.reduceat(score, first) / counts
    return np.asarray(current + remaining * most < least.max() - _EVIDENCE_GAP)


def _next_step(
    below: FloatArray, first: IntArray, counts: IntArray, sizes: IntArray, beta: FloatArray
) -> FloatArray:
    """Growth of β per stratum that retains the wanted effective sample size, by bisection."""

    def effective_size(step: FloatArray) -> FloatArray:
        weight = np.exp(np.repeat(step, counts) * below)
        return np.asarray(np.add.reduceat(weight, first) ** 2 / np.add.reduceat(weight**2, first))

    wanted = _ESS_FRACTION * np.minimum(counts, sizes)
    low, high = np.zeros(len(beta)), 1 - beta
    reaches_one = effective_size(high) >= wanted
    for _ in range(20):
        middle = 0.5 * (low + high)
        enough = effective_size(middle) >= wanted
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    step = np.minimum(np.maximum(low, 1e-7), 1 - beta)
    return np.where(reaches_one, 1 - beta, step)


def _move(
    target: Target, particles: Particles, beta: FloatArray, moves: int, rng: np.random.Generator
) -> None:
    """Metropolis moves at power β, each along the difference of two particles of the stratum."""
    n = len(particles)
    starts = np.flatnonzero(np.r_[True, particles.stratum[1:] != particles.stratum[:-1]])
    counts = np.diff(np.r_[starts, n])
    low, count = np.repeat(starts, counts), np.repeat(counts, counts)
    used = target.used_columns(particles.stratum)
    usual = 2.38 / np.sqrt(2 * (used.sum(axis=1) + 1))
    prior = target.log_prior(particles)
    for _ in range(moves):
        one, two = (low + (rng.uniform(size=n) * count).astype(int) for _ in range(2))
        # A full difference, in one move of ten, can jump between modes.
        scale = np.where(rng.uniform(size=n) < 0.1, 1.0, usual * rng.uniform(0.4, 1.1, n))
        step = particles.z[one] - particles.z[two]
        jitter = 0.01 * rng.standard_normal(step.shape) * (np.abs(step) + 0.01)
        noise = scale * (particles.log_noise[one] - particles.log_noise[two])
        proposed = Particles(
            particles.stratum,
            particles.z + (scale[:, None] * step + jitter) * used,
            particles.mirrored,
            particles.log_noise + noise + 0.01 * rng.standard_normal(n),
            target.propose_setting(particles, rng),
            *(np.empty(n) for _ in range(3)),
        )
        target.evaluate(proposed)
        proposed_prior = target.log_prior(proposed)
        log_ratio = beta * (proposed.score - particles.score) + proposed_prior - prior
        accepted = np.log(rng.uniform(size=n)) < log_ratio
        particles.accept(accepted, proposed)
        prior[accepted] = proposed_prior[accepted]
