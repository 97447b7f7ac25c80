"""Does the interval of the best ε hold? Planted curves, sweeps of them, and how often it covers.

    python benchmarks/coverage.py [--studies 25] [--only parabola …]

Each family draws curves over ε from 0 to 8; each curve is swept at ten ε with 3, 5, 10 and 20
seeds, a seed effect of 0.5 points and a spread of one network of 0.2, 0.5, 1 and 2 points. Nominal
is 95 %. A curve whose top lies on an end of the range counts as covered where the interval reaches
that end; a flat curve where the interval is the whole range. Writes benchmarks/results/.
"""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.stats import skewnorm

from analysis.response.curves import draw_curves
from analysis.response.fit import best_epsilon, is_flat, remove_seed_effect

Curve = Callable[[np.ndarray], np.ndarray]
EPSILON = np.array(sorted({*np.linspace(0, 8, 9), 3.03}))
FINE = np.linspace(0, 8, 8001)
SEEDS, SPREADS, SEED_SD = (3, 5, 10, 20), (0.002, 0.005, 0.01, 0.02), 0.005
INNER, EDGE, FLAT = "inner", "edge", "flat"


def _sides(d: np.ndarray, left: float, right: float) -> np.ndarray:
    return np.where(d < 0, left, right)


def parabola(r: np.random.Generator) -> Curve:
    """One curvature."""
    b, w = r.uniform(1.5, 6.5), r.uniform(2, 6)
    return lambda e: 0.93 - 0.1 * ((e - b) / w) ** 2


def shallow(r: np.random.Generator) -> Curve:
    """A parabola that the noise may hide."""
    b, a = r.uniform(1.5, 6.5), r.uniform(0.001, 0.006)
    return lambda e: 0.93 - a * ((e - b) / 4) ** 2


def bell(r: np.random.Generator) -> Curve:
    """Gaussian."""
    b, w = r.uniform(2, 5.5), r.uniform(1.2, 3)
    return lambda e: 0.1 + 0.83 * np.exp(-0.5 * ((e - b) / w) ** 2)


def lorentz(r: np.random.Generator) -> Curve:
    """Heavy tails."""
    b, w = r.uniform(1.5, 6), r.uniform(1, 2.5)
    return lambda e: 0.2 + 0.73 / (1 + ((e - b) / w) ** 2)


def sech(r: np.random.Generator) -> Curve:
    """Exponential tails."""
    b, w = r.uniform(1.5, 6), r.uniform(0.8, 2.5)
    return lambda e: 0.2 + 0.73 / np.cosh((e - b) / w)


def plateau(r: np.random.Generator) -> Curve:
    """A broad top."""
    b, w = r.uniform(2, 5.5), r.uniform(1.5, 3.5)
    return lambda e: 0.2 + 0.73 * np.exp(-(np.abs((e - b) / w) ** 4))


def half_parabolas_mild(r: np.random.Generator) -> Curve:
    """Curvatures up to 4 times as large on the left."""
    b, left, k = r.uniform(1.5, 6), r.uniform(0.004, 0.02), r.uniform(1, 4)
    return lambda e: 0.93 - _sides(e - b, left, left / k) * (e - b) ** 2


def half_parabolas_steep(r: np.random.Generator) -> Curve:
    """Curvatures 5 to 12 times as large on the left."""
    b, left, k = r.uniform(1.5, 5.5), r.uniform(0.01, 0.04), r.uniform(5, 12)
    return lambda e: 0.93 - _sides(e - b, left, left / k) * (e - b) ** 2


def half_bells(r: np.random.Generator) -> Curve:
    """A Gaussian a side, the left one up to 6 times as narrow."""
    b, foot = r.uniform(1.5, 5), r.uniform(0.05, 0.5)
    left, right = r.uniform(0.6, 1.6), r.uniform(1.8, 4)
    return lambda e: (
        foot + (0.93 - foot) * np.exp(-0.5 * ((e - b) / _sides(e - b, left, right)) ** 2)
    )


def x_exp_minus_x(r: np.random.Generator) -> Curve:
    """Fails at 0, rises steeply, falls slowly."""
    b, k = r.uniform(1.5, 5), r.uniform(0.7, 3)
    return lambda e: 0.2 + 0.73 * np.exp(k * (np.log(np.maximum(e, 1e-9) / b) + 1 - e / b))


def log_bell(r: np.random.Generator) -> Curve:
    """Gaussian in log(ε + c)."""
    b, s, c = r.uniform(1.5, 5.5), r.uniform(0.4, 0.9), r.uniform(0.2, 1.5)
    return lambda e: 0.1 + 0.83 * np.exp(-0.5 * (np.log((e + c) / (b + c)) / s) ** 2)


def skew_normal(r: np.random.Generator) -> Curve:
    """Density of the skew normal distribution."""
    a, at, w = r.uniform(2, 6), r.uniform(0.8, 3.5), r.uniform(1.5, 3)
    top = skewnorm.pdf(FINE, a, at, w).max()
    return lambda e: 0.2 + 0.7 * skewnorm.pdf(e, a, at, w) / top


def beta(r: np.random.Generator) -> Curve:
    """x^a (1 − x)^b over the range."""
    a, b = r.uniform(0.5, 2), r.uniform(0.5, 2.5)
    mode = a / (a + b)
    top = mode**a * (1 - mode) ** b
    return lambda e: 0.2 + 0.7 * ((e / 8) ** a * (1 - e / 8) ** b) / top


def logistic_rise(r: np.random.Generator) -> Curve:
    """Logistic rise, straight fall."""
    at, w, slope = r.uniform(0.8, 3), r.uniform(0.25, 0.7), r.uniform(0.005, 0.03)
    return lambda e: 0.1 + 0.8 / (1 + np.exp(-(e - at) / w)) - slope * e


def exponential_rise(r: np.random.Generator) -> Curve:
    """Exponential rise, straight fall."""
    w, slope = r.uniform(0.5, 1.8), r.uniform(0.01, 0.04)
    return lambda e: 0.2 + 0.7 * (1 - np.exp(-e / w)) - slope * e


def quickstart(r: np.random.Generator) -> Curve:
    """The shape that the quickstart measured, stretched."""
    x = np.array([0, 0.25, 0.45, 0.7, 1.0, 1.4, 1.9, 2.4]) * r.uniform(2.5, 5)
    y = np.array([0.15, 0.55, 0.85, 0.925, 0.935, 0.925, 0.89, 0.80])
    through = PchipInterpolator(x, y)
    return lambda e: np.asarray(through(e))


def pointed(r: np.random.Generator) -> Curve:
    """|d|^1.5, slopes of its own a side."""
    b, left, right = r.uniform(1.5, 6), r.uniform(0.02, 0.06), r.uniform(0.01, 0.06)
    return lambda e: 0.93 - _sides(e - b, left, right) * np.abs(e - b) ** 1.5


def tent(r: np.random.Generator) -> Curve:
    """|d|, slopes of its own a side."""
    b, left, right = r.uniform(1.5, 6), r.uniform(0.03, 0.1), r.uniform(0.01, 0.06)
    return lambda e: 0.93 - _sides(e - b, left, right) * np.abs(e - b)


def rising(r: np.random.Generator) -> Curve:
    """A straight line up to the edge."""
    slope = r.uniform(0.01, 0.04)
    return lambda e: 0.93 - slope * (8 - e)


def saturating(r: np.random.Generator) -> Curve:
    """Rises ever more slowly."""
    w = r.uniform(1.2, 3)
    return lambda e: 0.2 + 0.7 * (1 - np.exp(-e / w))


def top_beyond(r: np.random.Generator) -> Curve:
    """A parabola whose top lies outside."""
    b, w = r.uniform(8.8, 12), r.uniform(3, 6)
    return lambda e: 0.93 - 0.1 * ((e - b) / w) ** 2


def falling(r: np.random.Generator) -> Curve:
    """A straight line down from ε = 0."""
    slope = r.uniform(0.005, 0.03)
    return lambda e: 0.93 - slope * e


def flat(r: np.random.Generator) -> Curve:
    """No ε is better than another."""
    level = r.uniform(0.3, 0.95)
    return lambda e: np.full_like(e, level)


FAMILIES = {
    INNER: (
        *(parabola, shallow, bell, lorentz, sech, plateau, half_parabolas_mild),
        *(half_parabolas_steep, half_bells, x_exp_minus_x, log_bell, skew_normal, beta),
        *(logistic_rise, exponential_rise, quickstart, pointed, tent),
    ),
    EDGE: (rising, saturating, top_beyond, falling),
    FLAT: (flat,),
}


def sweep(family: Callable[[np.random.Generator], Curve], kind: str, seeds: int, spread: float,
          study: int) -> tuple[bool, float, bool, bool]:  # fmt: skip
    """One planted sweep: covered, length of the interval, flagged as edge, as flat."""
    name = zlib.crc32(family.__name__.encode())
    rng = np.random.default_rng([name, seeds, round(1e4 * spread), study])
    curve = family(rng)
    y = curve(EPSILON)[:, None] + rng.normal(0, SEED_SD, seeds)
    y = y + rng.normal(0, spread, y.shape)
    found = remove_seed_effect(y)
    drawn = draw_curves(EPSILON, found.means, found.variances, found.dof, study)
    best = best_epsilon(drawn.peaks, EPSILON[0], EPSILON[-1], flat=is_flat(y))
    truth = FINE[np.argmax(curve(FINE))]
    covered = best.low - 1e-9 <= truth <= best.high + 1e-9
    if kind == FLAT:
        covered = best.low <= EPSILON[0] and best.high >= EPSILON[-1]
    return bool(covered), best.high - best.low, best.on_edge, best.flat


def summary(family: Callable[[np.random.Generator], Curve], kind: str, studies: int) -> dict:
    """Coverage by seeds and in all, median length, and how often what is flagged."""
    cases = {
        n: [sweep(family, kind, n, s, k) for s in SPREADS for k in range(studies)] for n in SEEDS
    }
    every = [case for some in cases.values() for case in some]
    return {
        "kind": kind,
        "n": len(every),
        "covers": float(np.mean([c[0] for c in every])),
        **{f"covers_{n}_seeds": float(np.mean([c[0] for c in some])) for n, some in cases.items()},
        "median_length": float(np.median([c[1] for c in every])),
        "edge": float(np.mean([c[2] for c in every])),
        "flat": float(np.mean([c[3] for c in every])),
    }


def main() -> None:
    """Measure, print and save."""
    from measure import save  # here, because it imports torch and the analysis does not

    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=25, help="for each of 16 settings")
    parser.add_argument("--only", nargs="+", help="families")
    arguments = parser.parse_args()
    table = {}
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        futures = {
            family.__name__: processes.submit(summary, family, kind, arguments.studies)
            for kind, families in FAMILIES.items()
            for family in families
            if not arguments.only or family.__name__ in arguments.only
        }
        for name, future in futures.items():
            row = table[name] = future.result()
            by_seeds = " ".join(f"{100 * row[f'covers_{n}_seeds']:5.1f}" for n in SEEDS)
            print(
                f"{name:22} {100 * row['covers']:5.1f} % of {row['n']}  by seeds {by_seeds}  "
                f"length {row['median_length']:.2f}  edge {100 * row['edge']:.0f} %  "
                f"flat {100 * row['flat']:.0f} %",
                flush=True,
            )
    save("coverage", vars(arguments), table)


if __name__ == "__main__":
    main()
