"""Does the interval of the best ε hold? Planted curves, sweeps of them, and how often it covers.

    python benchmarks/coverage.py [--studies 9] [--only parabola …] [--processes 2]

Each family draws curves over ε from 0 to 8. Each curve is swept at 10 and at 14 ε with 3, 5 and 10
seeds, a seed effect of 0.5 points and a spread of one network of 0.2, 0.5, 1 and 2 points. Nominal
is 95 %. A curve whose top lies on an end of the range counts as covered where the interval reaches
that end; a flat curve where the interval is the whole range; a plateau where the interval contains
at least half of it. `--again` also fits some of the sweeps with two other random seeds of the
analysis, and says how far the ends of the interval move. Writes benchmarks/results/.
"""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtr
from scipy.stats import skewnorm

from analysis.response.fit import BestEpsilon, fit_sweep

Curve = Callable[[np.ndarray], np.ndarray]
GRIDS = {n: np.array(sorted({*np.linspace(0, 8, n - 1), 3.03})) for n in (10, 14)}
FINE = np.linspace(0, 8, 8001)
SEEDS, SPREADS, SEED_SD = (3, 5, 10), (0.002, 0.005, 0.01, 0.02), 0.005
INNER, EDGE, FLAT, PLATEAU = "inner", "edge", "flat", "plateau"


def _sides(d: np.ndarray, left: float, right: float) -> np.ndarray:
    return np.where(d < 0, left, right)


def _turn(r: np.random.Generator, curve: Curve) -> Curve:
    """The curve or, as often, its mirror image."""
    return curve if r.uniform() < 0.5 else lambda e: curve(8 - e)


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


def narrow_dome(r: np.random.Generator) -> Curve:
    """A Gaussian over two or three points of the sweep, on a level ground."""
    b, w, height = r.uniform(1, 7), r.uniform(0.5, 0.9), r.uniform(0.05, 0.15)
    return lambda e: 0.8 + height * np.exp(-0.5 * ((e - b) / w) ** 2)


def lorentz(r: np.random.Generator) -> Curve:
    """Heavy tails."""
    b, w = r.uniform(1.5, 6), r.uniform(1, 2.5)
    return lambda e: 0.2 + 0.73 / (1 + ((e - b) / w) ** 2)


def sech(r: np.random.Generator) -> Curve:
    """Exponential tails."""
    b, w = r.uniform(1.5, 6), r.uniform(0.8, 2.5)
    return lambda e: 0.2 + 0.73 / np.cosh((e - b) / w)


def broad(r: np.random.Generator) -> Curve:
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


def kink_in_bell(r: np.random.Generator) -> Curve:
    """exp(−|d|) with a rate of its own a side."""
    b, left, right = r.uniform(1.5, 6), r.uniform(0.7, 2), r.uniform(1, 4)
    return lambda e: 0.2 + 0.73 * np.exp(-np.abs(e - b) / _sides(e - b, left, right))


def _collapse(r: np.random.Generator, fall: Callable[[np.ndarray], np.ndarray]) -> Curve:
    """A steep collapse on one side, a slow straight, bent or exponential loss on the other."""
    at, width = r.uniform(1, 4.5), np.exp(r.uniform(np.log(0.1), np.log(0.8)))
    drop, slope, kind = r.uniform(0.2, 0.8), r.uniform(0.004, 0.03), r.integers(3)

    def curve(e: np.ndarray) -> np.ndarray:
        slow = (e, e**2 / 8, 4 * -np.expm1(-e / 4))[kind]
        return 0.93 - drop + drop * fall((e - at) / width) - slope * slow

    return _turn(r, curve)


def collapse_normal(r: np.random.Generator) -> Curve:
    """A collapse as the normal distribution function, sd 0.1 to 0.8 ε."""
    return _collapse(r, ndtr)


def collapse_logistic(r: np.random.Generator) -> Curve:
    """A logistic collapse, scale 0.06 to 0.5 ε."""
    return _collapse(r, lambda t: 1 / (1 + np.exp(-t / 0.6)))


def collapse_linear(r: np.random.Generator) -> Curve:
    """A straight collapse over 0.3 to 2.4 ε, with a corner at its top."""
    return _collapse(r, lambda t: np.clip(0.5 + t / 3, 0, 1))


def collapse_gumbel(r: np.random.Generator) -> Curve:
    """A collapse as the Gumbel distribution function: sharp at its foot, soft at its top."""
    return _collapse(r, lambda t: np.exp(-np.exp(np.clip(-t, -50, 50))))


def two_humps(r: np.random.Generator) -> Curve:
    """Two Gaussians apart, the lower one 0 to 3 points lower."""
    b, c, w, v = r.uniform(1, 3), r.uniform(5, 7), r.uniform(0.6, 1.2), r.uniform(0.6, 1.2)
    lower = 0.3 - r.uniform(0, 0.03)
    return _turn(
        r,
        lambda e: (
            0.6
            + 0.3 * np.exp(-0.5 * ((e - b) / w) ** 2)
            + lower * np.exp(-0.5 * ((e - c) / v) ** 2)
        ),
    )


def _plateau(r: np.random.Generator, loss: Callable[[np.ndarray], np.ndarray]) -> Curve:
    """Exactly level over 0.5 to 3 ε."""
    length = r.uniform(0.5, 3)
    low = r.uniform(1, 7 - length)
    left, right = np.exp(r.uniform(np.log(0.3), np.log(3), 2))

    def curve(e: np.ndarray) -> np.ndarray:
        return 0.93 - loss(np.maximum(low - e, 0) / left + np.maximum(e - low - length, 0) / right)

    return curve


def plateau_straight(r: np.random.Generator) -> Curve:
    """Straight sides."""
    return _plateau(r, lambda d: np.minimum(0.15 * d, 0.7))


def plateau_bent(r: np.random.Generator) -> Curve:
    """Half a parabola a side."""
    return _plateau(r, lambda d: np.minimum(0.05 * d**2, 0.7))


def plateau_bell(r: np.random.Generator) -> Curve:
    """Half a Gaussian a side."""
    return _plateau(r, lambda d: -0.7 * np.expm1(-0.5 * d**2))


def rising(r: np.random.Generator) -> Curve:
    """A straight line up to the edge."""
    slope = r.uniform(0.01, 0.04)
    return lambda e: 0.93 - slope * (8 - e)


def saturating(r: np.random.Generator) -> Curve:
    """Rises ever more slowly."""
    w = r.uniform(0.6, 3)
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
        *(collapse_normal, collapse_logistic, collapse_linear, collapse_gumbel),
        *(tent, kink_in_bell, pointed, narrow_dome, two_humps),
        *(parabola, shallow, bell, lorentz, sech, broad, half_parabolas_mild),
        *(half_parabolas_steep, half_bells, x_exp_minus_x, log_bell, skew_normal, beta),
        *(logistic_rise, exponential_rise, quickstart),
    ),
    PLATEAU: (plateau_straight, plateau_bent, plateau_bell),
    EDGE: (saturating, rising, top_beyond, falling),
    FLAT: (flat,),
}


@dataclass(frozen=True)
class Case:
    """What became of one planted sweep; `moved` is NaN unless it was fitted again."""

    spread: float
    seeds: int
    points: int
    covered: bool
    length: float
    bias: float
    edge: bool
    flat: bool
    moved: float = float("nan")


def planted(family: Callable[[np.random.Generator], Curve], points: int, seeds: int, spread: float,
            study: int) -> tuple[Curve, np.ndarray]:  # fmt: skip
    """A curve of the family and a sweep of it, accuracies of shape (points, seeds)."""
    name = zlib.crc32(family.__name__.encode())
    rng = np.random.default_rng([name, points, seeds, round(1e4 * spread), study])
    curve = family(rng)
    y = curve(GRIDS[points])[:, None] + rng.normal(0, SEED_SD, seeds)
    return curve, y + rng.normal(0, spread, y.shape)


def covers(best: BestEpsilon, top: np.ndarray, kind: str) -> bool:
    """Whether the interval holds the truth: the ε in `top` are the best ones."""
    low, high = best.low - 1e-9, best.high + 1e-9
    if kind == FLAT:
        return low <= FINE[0] and high >= FINE[-1]
    if kind == PLATEAU:
        return float(np.mean((low <= top) & (top <= high))) >= 0.5
    return bool(low <= top[0] <= high)


def sweep(family: Callable[[np.random.Generator], Curve], kind: str, points: int, seeds: int,
          spread: float, study: int, again: bool) -> Case:  # fmt: skip
    """One planted sweep."""
    curve, y = planted(family, points, seeds, spread, study)
    fits = [fit_sweep(GRIDS[points], y, study + 1000 * k).best for k in range(3 if again else 1)]
    best = fits[0]
    values = curve(FINE)
    top = FINE[values > values.max() - 1e-12] if kind == PLATEAU else FINE[[values.argmax()]]
    moved = max((abs(a - b) for f in fits[1:]
                 for a, b in ((f.low, best.low), (f.high, best.high))), default=np.nan)  # fmt: skip
    return Case(
        *(spread, seeds, points, covers(best, top, kind), best.high - best.low),
        float(np.clip(0, top[0] - best.value, top[-1] - best.value) * -1),
        *(best.on_edge, best.flat, moved),
    )


def summary(
    family: Callable[[np.random.Generator], Curve], kind: str, studies: int, again: int
) -> dict[str, object]:
    """Coverage by spread, seeds and points and in all, median length, how often what is flagged."""
    cases = [
        sweep(family, kind, points, seeds, spread, k, k < again)
        for points in GRIDS
        for seeds in SEEDS
        for spread in SPREADS
        for k in range(studies)
    ]

    def share(**values: float) -> float:
        chosen = [c for c in cases if all(getattr(c, k) == v for k, v in values.items())]
        return float(np.mean([c.covered for c in chosen]))

    moved = [c.moved for c in cases if np.isfinite(c.moved)]
    return {
        "kind": kind,
        "n": len(cases),
        "covers": share(),
        **{f"covers_spread_{s:g}": share(spread=s) for s in SPREADS},
        **{f"covers_{n}_seeds": share(seeds=n) for n in SEEDS},
        **{f"covers_{n}_points": share(points=n) for n in GRIDS},
        "median_length": float(np.median([c.length for c in cases])),
        "median_bias": float(np.median([c.bias for c in cases if not c.flat] or [np.nan])),
        "edge": float(np.mean([c.edge for c in cases])),
        "flat": float(np.mean([c.flat for c in cases])),
        "moved_most": float(max(moved)) if moved else None,
    }


def line(name: str, row: dict[str, float]) -> str:
    """One line of the table that is printed."""
    spreads = " ".join(f"{100 * row[f'covers_spread_{s:g}']:5.1f}" for s in SPREADS)
    seeds = " ".join(f"{100 * row[f'covers_{n}_seeds']:5.1f}" for n in SEEDS)
    points = " ".join(f"{100 * row[f'covers_{n}_points']:5.1f}" for n in GRIDS)
    moved = "" if row["moved_most"] is None else f"  moved {row['moved_most']:.3f}"
    return (
        f"{name:21} {100 * row['covers']:5.1f} % of {row['n']}  by spread {spreads}  seeds {seeds}"
        f"  points {points}  length {row['median_length']:.2f}  bias {row['median_bias']:+.2f}"
        f"  edge {100 * row['edge']:.0f} %  flat {100 * row['flat']:.0f} %{moved}"
    )


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=34, help="for each of 24 settings")
    parser.add_argument("--again", type=int, default=0, help="of these, fitted three times")
    parser.add_argument("--only", nargs="+", help="families")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--print-only", action="store_true", help="write no file")
    arguments = parser.parse_args()
    table = {}
    with ProcessPoolExecutor(arguments.processes) as processes:
        futures = {
            family.__name__: processes.submit(
                summary, family, kind, arguments.studies, arguments.again
            )
            for kind, families in FAMILIES.items()
            for family in families
            if not arguments.only or family.__name__ in arguments.only
        }
        for name, future in futures.items():
            table[name] = future.result()
            print(line(name, table[name]), flush=True)
    if not arguments.print_only:
        from measure import save  # here, because it imports torch and the analysis does not

        save("coverage", vars(arguments), table)


if __name__ == "__main__":
    main()
