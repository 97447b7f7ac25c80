"""Collapses: a steep loss on one side of the range and a slow one over all of it.

accuracy = T − a · F(r) − b · h(e), with e the distance from the side of the collapse. F falls from
1 to 0 around a place, r is the distance beyond that place in widths, and h grows slowly from that
side on. The maximum is where both slopes cancel, beyond the shoulder of the collapse; the slow loss
does not begin there, so that the maximum may be smooth. Neither place nor width of a collapse
between two points of a sweep is known; the prior is spread over both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr, ndtri

from analysis.response.quadrature import (
    KEEP,
    FloatArray,
    IntArray,
    Points,
    cells,
    coefficients,
    normalised,
)

KAPPAS = (0.05, 0.1, 0.2)  # standard deviation of the points per depth
KAPPA_PRIOR = (0.3, 0.4, 0.3)
HEIGHT = 2.5  # prior scale of a (half normal), in standard deviations of the points
SLOW_SCALES = (1.0, 0.15, 0.02)  # of b, likewise
SHAPES = LOGISTIC, NORMAL, STRAIGHT = range(3)
SLOWS = LINE, BENT, SATURATING = range(3)
WIDTHS = np.geomspace(0.004, 0.09, 11)
_NORMAL_SD = 1.7  # in widths, so that the normal collapse is as steep as the logistic one
_STRAIGHT_HALF = 2.5  # half the length of the straight collapse, in widths
_RATE = 2.0  # of the saturating slow loss
_PLACES = (-0.05, 1.05)  # where a collapse is sought
_FIRST_PASS, _SECOND_PASS = 44, 56  # places
_FIRST_KAPPA = (0.2,)  # wide enough for the places of the first pass
_FIRST_FLOOR = 0.05  # see `Points.weights`
_LEAST_SIDE = 1e-3  # a side with a smaller share gets no second pass
_LEAST = 1e-4  # nodes whose share is smaller than this times the largest one are left out
_MOST_NODES = 4000  # of a side, before the split into parts
_PARTS = 3  # of the distribution of b, for each of which there is a maximum


def steep(shape: int, r: FloatArray) -> FloatArray:
    """Steep loss F at distances r, in widths, beyond the place of the collapse."""
    if shape == LOGISTIC:
        return np.asarray(expit(-r))
    if shape == NORMAL:
        return np.asarray(ndtr(-r / _NORMAL_SD))
    return np.clip(0.5 - r / (2 * _STRAIGHT_HALF), 0.0, 1.0)


def slow(kind: int, e: FloatArray) -> FloatArray:
    """Slow loss h at distances e from the side of the collapse, 1 at the other end of the range."""
    if kind == LINE:
        return e
    if kind == BENT:
        return np.asarray(e * e)
    return np.asarray(np.expm1(-_RATE * e) / np.expm1(-_RATE))


def _slow_slope(kind: IntArray, e: FloatArray) -> FloatArray:
    """Derivative of h, a kind per node."""
    saturating = _RATE * np.exp(-_RATE * e) / -np.expm1(-_RATE)
    return np.where(kind == LINE, 1.0, np.where(kind == BENT, 2 * e, saturating))


def _shoulder(shape: IntArray, slope: FloatArray) -> FloatArray:
    """Distance r beyond the steepest place where −F′(r) = slope; −∞ for a slope nowhere reached."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logistic = 2 * np.arctanh(np.sqrt(1 - 4 * slope))
        normal = _NORMAL_SD * np.sqrt(-2 * np.log(slope * _NORMAL_SD * np.sqrt(2 * np.pi)))
    straight = np.where(slope < 0.5 / _STRAIGHT_HALF, _STRAIGHT_HALF, np.nan)
    r = np.where(shape == LOGISTIC, logistic, np.where(shape == NORMAL, normal, straight))
    return np.nan_to_num(r, nan=-np.inf, posinf=1e3)


@dataclass(frozen=True)
class Collapses:
    """Posterior of collapses; a `quadrature.Part`.

    Attributes:
        points: the points.
        log: log of prior times likelihood, shape (N,).
        first: the maximum, shape (N,).
        width: of the cells around it, twice, shape (N, 2).
        right: whether the collapse is on the right side, shape (N,).
        shape: of the collapse, one of `SHAPES`, shape (N,).
        place: of the collapse, from its side of the range, shape (N,).
        scale: width of the collapse, shape (N,).
        kind: of the slow loss, one of `SLOWS`, shape (N,).
        slow_scale: prior scale of the slow loss, shape (N,).
        kappa: index into `KAPPAS`, shape (N,).
    """

    points: Points
    log: FloatArray
    first: FloatArray
    width: FloatArray
    right: IntArray
    shape: IntArray
    place: FloatArray
    scale: FloatArray
    kind: IntArray
    slow_scale: FloatArray
    kappa: IntArray

    @property
    def last(self) -> FloatArray:
        """The maximum, shape (N,)."""
        return self.first

    def draw(
        self, chosen: IntArray, grid: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Curves of some nodes, see `quadrature.Part`."""
        f, h = self._losses(chosen, self.points.x)
        design = np.stack([np.ones_like(f), -f, -h], axis=2)
        prior = np.tile([0.0, HEIGHT**-2, 1.0], (len(chosen), 1))
        prior[:, 2] = self.slow_scale[chosen] ** -2.0
        weights = self.points.weights(KAPPAS)[self.kappa[chosen]]
        drawn = coefficients(self.points, weights, design, prior, rng)
        f, h = self._losses(chosen, grid)
        curves = drawn[:, [0]] - np.abs(drawn[:, [1]]) * f - np.abs(drawn[:, [2]]) * h
        return curves, grid[curves.argmax(axis=1)]

    def _losses(self, chosen: IntArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """F and h of some nodes at positions, each of shape (n, len(x))."""
        e = np.where(self.right[chosen, None] == 1, 1 - x, x)
        r = (e - self.place[chosen, None]) / self.scale[chosen, None]
        f, h = np.empty_like(e), np.empty_like(e)
        for shape in SHAPES:
            rows = self.shape[chosen] == shape
            f[rows] = steep(shape, r[rows])
        for kind in SLOWS:
            rows = self.kind[chosen] == kind
            h[rows] = slow(kind, e[rows])
        return f, h


def collapses(points: Points) -> Collapses:
    """Posterior of collapses on either side, by two passes."""
    grid, every = cells(*_PLACES, _FIRST_PASS), np.arange(len(WIDTHS))
    passes = [
        _Side(points, right, grid, np.array(SHAPES), every, _FIRST_KAPPA, (1.0,), _FIRST_FLOOR)
        for right in (0, 1)
    ]
    shares = normalised(*(side.log for side in passes))
    sides = []
    for right, share in enumerate(shares):
        if share.sum() < _LEAST_SIDE:
            continue
        share = share / share.sum()
        likely = grid[0][share.sum(axis=(1, 2, 3, 4)) > KEEP]
        margin = 1.5 * grid[1][0]
        span = (float(likely.min()) - margin, float(likely.max()) + margin)
        shapes = np.flatnonzero(share.sum(axis=(0, 2, 3, 4)) > KEEP)
        widths = np.flatnonzero(share.sum(axis=(0, 1, 3, 4)) > KEEP)
        fine = cells(*span, _SECOND_PASS)
        sides.append(_Side(points, right, fine, shapes, widths, KAPPAS, KAPPA_PRIOR))
    least = max(float(side.log.max()) for side in sides) + np.log(_LEAST)
    nodes = [np.concatenate(v) for v in zip(*(side.nodes(least) for side in sides), strict=True)]
    log, top, width, *of_curve = nodes
    return Collapses(points, log, top, np.column_stack([width, width]), *of_curve)


class _Side:
    """Posterior of collapses on one side.

    Args:
        points: the points.
        right: 1 for collapses on the right side, 0 for the left one.
        places: middles and widths of cells of the place.
        shapes: some of `SHAPES`.
        widths: indices into `WIDTHS`.
        kappas: standard deviations of the points per depth.
        prior: of the κ.
        floor: see `Points.weights`.
    """

    def __init__(
        self,
        points: Points,
        right: int,
        places: tuple[FloatArray, FloatArray],
        shapes: IntArray,
        widths: IntArray,
        kappas: tuple[float, ...],
        prior: tuple[float, ...],
        floor: float = 0.0,
    ) -> None:
        self.right, self.places, self.shapes, self.widths = right, places, shapes, widths
        x, y = points.x, points.y
        e = 1 - x if right else x
        r = (e - places[0][:, None, None]) / WIDTHS[widths][:, None]  # (n, widths, P)
        f = np.stack([steep(int(k), r) for k in shapes], axis=1)
        h = np.stack([slow(k, e) for k in SLOWS for _ in SLOW_SCALES])
        scales = np.tile(SLOW_SCALES, len(SLOWS))
        w = points.weights(kappas, floor)
        total = w.sum(axis=1)
        centred_y = y - (w @ y / total)[:, None]  # (κ, P)
        centred_h = h[:, None] - ((h @ w.T) / total)[..., None]  # (slow, κ, P)
        flat = f.reshape(-1, len(x))
        shape = (*f.shape[:3], 1, len(w))
        # Sums over the points of products of the centred losses and means.
        ff = ((flat * flat) @ w.T - (flat @ w.T) ** 2 / total).reshape(shape) + HEIGHT**-2
        fy = (flat @ (w * centred_y).T).reshape(shape)
        fh = (flat @ (w * centred_h).reshape(-1, len(x)).T).reshape(*f.shape[:3], len(h), len(w))
        hh = (w * centred_h**2).sum(axis=2) + scales[:, None] ** -2.0
        hy = (w * centred_h * centred_y).sum(axis=2)
        det = ff * hh - fh * fh
        self.a, self.b = (fh * hy - hh * fy) / det, (fh * fy - ff * hy) / det
        misfit = (w * centred_y**2).sum(axis=1) + self.a * fy + self.b * hy
        spread2 = (points.dof + np.maximum(misfit, 0.0)) / points.degrees
        self.sd_b = np.sqrt(spread2 * ff / det)
        positive = ndtr(self.a / np.sqrt(spread2 * hh / det)) * ndtr(self.b / self.sd_b)
        log = np.log(np.maximum(positive, 1e-300))
        log -= 0.5 * (np.log(det) + points.degrees * np.log(spread2))
        log += 0.5 * (np.log(w).sum(axis=1) - np.log(total)) + np.log(prior)
        log += np.log(4 / HEIGHT / scales)[:, None]
        number = 2 * len(SHAPES) * len(WIDTHS) * len(scales)  # with either side
        self.log = log + np.log(places[1][0] / np.ptp(_PLACES) / number)

    def nodes(self, least: float) -> tuple[FloatArray | IntArray, ...]:
        """Nodes with a log probability of at least `least`, as the fields of `Collapses`.

        The slow loss is uncertain given the node. Each node is therefore split into parts of
        equal probability, at the median of each part. Many nodes are thinned.
        """
        keep = np.nonzero(self.log > least)
        log = self.log[keep]
        if len(log) > _MOST_NODES:  # of equal probability, in the order of the nodes
            cumulative = np.cumsum(np.exp(log - log.max()))
            wanted = (np.arange(_MOST_NODES) + 0.5) / _MOST_NODES * cumulative[-1]
            chosen = np.searchsorted(cumulative, wanted)
            keep = tuple(index[chosen] for index in keep)
            log = np.full(_MOST_NODES, log.max() + np.log(cumulative[-1] / _MOST_NODES))
        at, shape, width, slow_index, kappa = keep
        below = ndtr(-self.b[keep] / self.sd_b[keep])
        rows = []
        for share in (np.arange(_PARTS) + 0.5) / _PARTS:
            quantile = np.clip(below + share * (1 - below), 1e-12, 1 - 1e-12)
            b = np.maximum(self.b[keep] + self.sd_b[keep] * ndtri(quantile), 1e-9)
            place, scale = self.places[0][at], WIDTHS[self.widths[width]]
            kind = slow_index // len(SLOW_SCALES)
            top = self._top(self.shapes[shape], place, scale, kind, self.a[keep], b)
            rows.append((
                log - np.log(_PARTS), 1 - top if self.right else top,
                self.places[1][at], np.full(len(at), self.right), self.shapes[shape], place, scale,
                kind, np.array(SLOW_SCALES)[slow_index % len(SLOW_SCALES)], kappa,
            ))  # fmt: skip
        return tuple(np.concatenate(v) for v in zip(*rows, strict=True))

    @staticmethod
    def _top(
        shape: IntArray,
        place: FloatArray,
        scale: FloatArray,
        kind: IntArray,
        a: FloatArray,
        b: FloatArray,
    ) -> FloatArray:
        """Where the curve is highest: beyond the shoulder, or at the side of the collapse."""
        a = np.maximum(a, 1e-9)
        top = place
        for _ in range(4):  # the slope of the slow loss hardly changes over a shoulder
            slope = b * _slow_slope(kind, np.clip(top, 1e-3, 1.0)) * scale / a
            top = place + scale * np.maximum(_shoulder(shape, slope), -1e3)
        at, zero = np.clip(top, 0.0, 1.0), np.zeros_like(place)

        def loss(e: FloatArray) -> FloatArray:
            r = (e - place) / scale
            value = np.empty_like(e)
            for k in SHAPES:
                rows = shape == k
                value[rows] = a[rows] * steep(k, r[rows])
            for k in SLOWS:
                rows = kind == k
                value[rows] += b[rows] * slow(k, e[rows])
            return value

        return np.where(loss(at) <= loss(zero), top, 0.0)
