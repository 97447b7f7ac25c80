"""Draws from a mixture of models by tempered sequential Monte Carlo (Del Moral et al. 2006).

Every model ("stratum") has particles of its own, which start from its prior and feel the likelihood
to a growing power β; between steps they are resampled and moved by differential evolution (ter
Braak 2006), which finds scales and correlations by itself. A stratum's evidence falls out as the
product of its mean weights. Models compete by evidence at the end only: at small β a smooth model
with a wide error always looks better, and would drive out the one that fits in the end. A stratum
whose evidence cannot come near the best any more is dropped on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

Array = np.ndarray

_ESS = 0.5  # effective sample size that a step of β leaves, as a share
_MOVES = 3  # a step
_LAST_MOVES = 4
_HOPELESS = 7.0  # log evidence below the best that drops a stratum
_SLACK = 2.0  # how far above the best particle's log likelihood a stratum may still come, at β = 1
_STEPS = 60


@dataclass
class Particles:
    """Parameter values, one a row; sorted by stratum.

    Attributes:
        stratum: (n,) int, the model.
        z: (n, d), standard normal a priori; a model uses its first few columns.
        mirrored: (n,) bool, fixed.
        log_noise: (n,) log of the factor on the noise's standard deviation.
        setting: (n,) int, a discrete parameter.
        score: (n,) log likelihood.
        height, precision: (n,) mean and precision of the curve's height, given the rest.
    """

    stratum: Array
    z: Array
    mirrored: Array
    log_noise: Array
    setting: Array
    score: Array
    height: Array
    precision: Array

    def __getitem__(self, at: Array) -> Particles:
        return Particles(*(getattr(self, f.name)[at] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.stratum)

    def accept(self, where: Array, proposed: Particles) -> None:
        """Take over the proposed rows where `where` is true."""
        for f in fields(self):
            getattr(self, f.name)[where] = getattr(proposed, f.name)[where]


class Target(Protocol):
    """What is drawn from."""

    def evaluate(self, particles: Particles) -> None:
        """Fill in score, height and precision."""

    def log_prior(self, particles: Particles) -> Array:
        """Log prior density (n,) of z and log_noise, up to a constant of the stratum."""

    def used(self, stratum: Array) -> Array:
        """Which columns of z a stratum uses, (n, d) of 0 and 1."""

    def propose_setting(self, particles: Particles, rng: np.random.Generator) -> Array:
        """Settings (n,) from their prior where they are proposed anew, else as they are."""


def sample(
    target: Target,
    start: Particles,
    sizes: Array,
    prior: Array,
    count: int,
    rng: np.random.Generator,
) -> Particles:
    """Particles from the posterior over all strata, each in proportion to prior × evidence.

    Args:
        target: what is drawn from.
        start: prior draws, a multiple of `sizes` a stratum, evaluated.
        sizes: (strata,) particles to go on with.
        prior: (strata,) prior probabilities.
        count: how many to return.
        rng: of all draws.
    """
    particles, log_prior = start, np.log(prior)
    beta, evidence = np.zeros(len(sizes)), np.zeros(len(sizes))
    alive = np.ones(len(sizes), dtype=bool)
    for _ in range(_STEPS):
        there = np.flatnonzero(alive)
        counts = np.bincount(particles.stratum, minlength=len(sizes))[there]
        first = np.r_[0, np.cumsum(counts)[:-1]]
        best = np.maximum.reduceat(particles.score, first)
        below = particles.score - np.repeat(best, counts)
        step = _next_step(below, first, counts, sizes[there], beta[there])
        weight = np.exp(np.repeat(step, counts) * below)
        evidence[there] += np.log(np.add.reduceat(weight, first) / counts) + step * best
        beta[there] += step
        kept = [
            a + pick(weight[a : a + n], sizes[s], rng)
            for a, n, s in zip(first, counts, there, strict=True)
        ]
        particles = particles[np.concatenate(kept)]
        _move(target, particles, beta[particles.stratum], _MOVES, rng)

        counts = sizes[there]
        first = np.r_[0, np.cumsum(counts)[:-1]]
        rest, now = 1 - beta[there], log_prior[there] + evidence[there]
        most = np.maximum.reduceat(particles.score, first) + _SLACK / beta[there]
        # Jensen: log E exp(rest · score) ≥ rest · E score.
        least = now + rest * np.add.reduceat(particles.score, first) / counts
        hopeless = now + rest * most < least.max() - _HOPELESS
        alive[there[hopeless]] = False
        if hopeless.any():
            particles = particles[alive[particles.stratum]]
        if beta[alive].min() >= 1:
            break
    log_weight = np.where(alive, log_prior + evidence, -np.inf)
    shares = np.bincount(
        pick(np.exp(log_weight - log_weight.max()), count, rng), minlength=len(sizes)
    )
    first = np.r_[0, np.cumsum(np.where(alive, sizes, 0))[:-1]]
    kept = [
        first[s] + np.sort(np.arange(n) * max(sizes[s], n) // n % sizes[s])
        for s, n in enumerate(shares)
        if n
    ]
    particles = particles[np.concatenate(kept)]
    _move(target, particles, np.ones(len(particles)), _LAST_MOVES, rng)
    return particles


def pick(weight: Array, count: int, rng: np.random.Generator) -> Array:
    """Systematic resampling: `count` sorted positions in proportion to unnormalised weights."""
    total = np.cumsum(weight)
    wanted = (np.arange(count) + rng.uniform()) / count * total[-1]
    return np.minimum(np.searchsorted(total, wanted), len(weight) - 1)


def _next_step(below: Array, first: Array, counts: Array, sizes: Array, beta: Array) -> Array:
    """Growth of β (strata,) that leaves the wanted effective sample size, by bisection."""

    def effective(step: Array) -> Array:
        weight = np.exp(np.repeat(step, counts) * below)
        return np.asarray(np.add.reduceat(weight, first) ** 2 / np.add.reduceat(weight**2, first))

    wanted = _ESS * np.minimum(counts, sizes)
    low, high = np.zeros(len(beta)), 1 - beta
    whole = effective(high) >= wanted
    for _ in range(20):
        middle = 0.5 * (low + high)
        enough = effective(middle) >= wanted
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.where(whole, 1 - beta, np.minimum(np.maximum(low, 1e-7), 1 - beta))


def _move(
    target: Target, particles: Particles, beta: Array, moves: int, rng: np.random.Generator
) -> None:
    """Metropolis steps at power β; a step is a difference of two particles of the stratum."""
    n = len(particles)
    starts = np.flatnonzero(np.r_[True, particles.stratum[1:] != particles.stratum[:-1]])
    counts = np.diff(np.r_[starts, n])
    low, count = np.repeat(starts, counts), np.repeat(counts, counts)
    used = target.used(particles.stratum)
    usual = 2.38 / np.sqrt(2 * (used.sum(axis=1) + 1))
    prior = target.log_prior(particles)
    for _ in range(moves):
        one, two = (low + (rng.uniform(size=n) * count).astype(int) for _ in range(2))
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
        new = target.log_prior(proposed)
        ratio = beta * (proposed.score - particles.score) + new - prior
        accepted = np.log(rng.uniform(size=n)) < ratio
        particles.accept(accepted, proposed)
        prior[accepted] = new[accepted]
