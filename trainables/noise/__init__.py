"""Label noise: pure functions from clean labels to noisy ones.

Most kinds are a transition matrix T [C, C], T[i, j] = P(noisy label j | true label i), and each
label is drawn by itself. Randomness comes from the seed alone, by uniform doubles whose stream is
the same on every machine; a label that is flipped at one rate stays flipped at every higher rate
of the same kind and seed (but for `asymmetric-sequential`, which flips some back).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.base import Dataset, DatasetInfo
from trainables.noise import drawing, human, instance, matrices
from trainables.noise.base import (
    Matrix,
    NoiseError,
    NoisyLabels,
    UnknownNoiseError,
    checked,
    describe,
)
from trainables.seeds import derive

__all__ = [
    "KINDS",
    "OWN_RATE",
    "NoiseError",
    "NoisyLabels",
    "NoisySplits",
    "UnknownNoiseError",
    "apply",
    "check",
    "corrupt",
    "describe",
    "matrix_for",
    "names",
    "picture",
    "transition_matrix",
]

KINDS = {
    "symmetric": "to each of the other classes with probability rate / (C − 1)",
    "symmetric-inclusive": "a share rate drawn anew from all classes: rate · (C − 1) / C is wrong",
    "pair": "class i to class i + 1, the last to the first",
    "asymmetric": "to a class that looks alike; a customary map (MNIST, Fashion-MNIST, CIFAR-10) "
    "or one's own (flips)",
    "asymmetric-sequential": "the same, one map after the other on noisy labels, as older code did",
    "superclass": "to the next class of the true superclass (CIFAR-100, or groups)",
    "block-rotation": "to the next of block = 5 consecutive classes, as published for CIFAR-100",
    "matrix": "one's own transition matrix, from a file (.npy, .csv) or an array",
    "pdn": "part-dependent, instance-dependent: rate and target follow from the image",
    "human-aggregate": "CIFAR-10N, majority of three people (9 % wrong)",
    "human-random1": "CIFAR-10N, first person (17 % wrong)",
    "human-random2": "CIFAR-10N, second person (18 % wrong)",
    "human-random3": "CIFAR-10N, third person (18 % wrong)",
    "human-worst": "CIFAR-10N, a wrong one of three where there is one (40 % wrong)",
    "human-fine": "CIFAR-100N (40 % wrong)",
}

OWN_RATE = frozenset({"matrix", *human.KINDS})
"""Kinds that have a rate of their own: `rate` is None."""


@dataclass(frozen=True)
class NoisySplits:
    """Noisy training and validation labels of one data set, of one noise, drawn apart."""

    train: NoisyLabels
    val: NoisyLabels


def names() -> tuple[str, ...]:
    """Names of all kinds of noise."""
    return tuple(KINDS)


def transition_matrix(kind: str, classes: int, rate: float | None, **options: Any) -> Matrix:
    """The matrix T [C, C] that defines a kind: T[i, j] = P(noisy label j | true label i).

    Parameters
    ----------
    kind
        one of `names()` but `pdn` and the human kinds, which are no matrix.
    classes
        number of classes, from 2.
    rate
        in [0, 1]; None for kind `matrix`.
    **options
        `dataset` or `flips` for the asymmetric kinds, `dataset` or `groups` for `superclass`,
        `block` for `block-rotation`, `matrix` for `matrix`: see `trainables.noise.matrices`.

    Raises
    ------
    UnknownNoiseError: no noise of that kind.
    NoiseError: a rate, class count or option that is not allowed.
    """
    _check(kind, classes, rate)
    if kind == "matrix":
        _check_options(kind, options, ("matrix",))
        if "matrix" not in options:
            raise NoiseError("noise kind 'matrix': give matrix, a file or an array")
        return matrices.given(classes, **options)
    if kind not in matrices.BY_KIND:
        raise NoiseError(f"noise kind {kind!r} is no transition matrix")
    make = matrices.BY_KIND[kind]
    _check_options(kind, options, tuple(inspect.signature(make).parameters)[2:])
    return make(classes, rate, **options)


def matrix_for(
    dataset: Dataset | DatasetInfo, kind: str, rate: float | None, **options: Any
) -> Matrix:
    """`transition_matrix` for a data set, whose name chooses customary class maps.

    Parameters
    ----------
    dataset
        its `info` is enough.
    kind, rate, **options
        as in `transition_matrix`.

    Raises
    ------
    UnknownNoiseError, NoiseError: as `transition_matrix`.
    """
    options = _with_name(kind, dataset.name, options)
    return transition_matrix(kind, dataset.classes, rate, **options)


def check(dataset: DatasetInfo, kind: str, rate: float | None, **options: Any) -> None:
    """Whether `apply` can work on a data set, as far as can be told without reading it.

    Parameters
    ----------
    dataset
        what `trainables.datasets.info` says.
    kind, rate, **options
        as in `apply`.

    Raises
    ------
    UnknownNoiseError, NoiseError: as `apply`, but for files of human labels.
    """
    _check(kind, dataset.classes, rate)
    if kind in human.KINDS:
        _check_options(kind, options, ())
        human.check(kind, dataset.name, dataset.classes)
        return
    draw = options.pop("draw", "iid")
    _check_draw(kind, draw)
    if kind == "pdn":
        _check_options(kind, options, ())
    else:
        matrix_for(dataset, kind, rate, **options)


def corrupt(
    labels: NDArray[Any],
    classes: int,
    kind: str,
    rate: float | None,
    seed: int,
    *,
    draw: str = "iid",
    **options: Any,
) -> NoisyLabels:
    """Draw noisy labels.

    Parameters
    ----------
    labels
        clean labels, whole numbers [N] in 0 … classes − 1; not modified.
    classes
        number of classes, from 2.
    kind
        one of `names()`; the human kinds need a data set, see `apply`.
    rate
        probability in [0, 1]; 0 gives the labels as they are. What it is the probability of, the
        kind says. None for kind `matrix`.
    seed
        a whole number from 0; the only source of randomness.
    draw
        `iid`, each label by itself; or `exact`, as many of each class as the rate says.
    **options
        as in `transition_matrix`; for `pdn` `features` [N, …], the network's inputs, and
        `weights_seed` (`seed` where it is not given).

    Raises
    ------
    UnknownNoiseError: no noise of that kind.
    NoiseError: a rate, label, seed or option that is not allowed.
    """
    _check(kind, classes, rate)
    _check_draw(kind, draw)
    if kind in human.KINDS:
        raise NoiseError(f"noise kind {kind!r} needs a data set: use `apply`")
    clean = checked(labels, classes)
    if seed < 0:
        raise NoiseError(f"noise seed = {seed}; allowed: whole numbers from 0")
    rng = np.random.default_rng(seed)
    if kind != "pdn":
        matrix = transition_matrix(kind, classes, rate, **options)
        return describe(clean, drawing.draw(clean, matrix, rng, draw), classes)
    _check_options(kind, options, ("features", "weights_seed"))
    if "features" not in options:
        raise NoiseError("noise kind 'pdn': give features, the network's inputs")
    options = {"weights_seed": seed, **options}
    assert rate is not None  # `_check` saw to it
    return describe(clean, instance.draw(clean, classes, rate, rng, **options), classes)


def apply(
    dataset: Dataset,
    kind: str,
    rate: float | None,
    seed: int,
    *,
    root: str | None = None,
    **options: Any,
) -> NoisySplits:
    """The same noise on a data set's training and validation labels, by unrelated draws.

    Parameters
    ----------
    dataset
        its name chooses customary class maps, its inputs instance-dependent noise.
    kind, rate, seed, **options
        as in `corrupt`; the human kinds have no randomness.
    root
        folder of the human labels; the environment variable LOGIT_BIAS_DATA where None.

    Raises
    ------
    UnknownNoiseError: no noise of that kind.
    NoiseError: a rate, seed or option that is not allowed, or a file that cannot be read.
    """
    _check(kind, dataset.classes, rate)
    if kind in human.KINDS:
        _check_options(kind, options, ())
        return _human(dataset, kind, root)
    options = _with_name(kind, dataset.name, options)
    if kind == "pdn":
        if not isinstance(dataset.train_x, np.ndarray):
            raise NoiseError("noise kind 'pdn' needs a data set in memory, not a folder of images")
        options = {"weights_seed": derive(seed, "weights"), **options}
    made = {}
    for part in ("train", "val"):
        x, y = getattr(dataset, f"{part}_x"), getattr(dataset, f"{part}_y")
        own = {"features": dataset.normalise(x)} if kind == "pdn" else {}
        made[part] = corrupt(
            y, dataset.classes, kind, rate, derive(seed, part), **{**options, **own}
        )
    return NoisySplits(**made)


def picture(matrix: Matrix, class_names: Sequence[str] | None = None) -> str:
    """A transition matrix in text: per cent, or shades where there are more than 20 classes."""
    classes = len(matrix)
    if classes > 20:
        cells = min(classes, 50)
        edges = np.arange(cells) * classes // cells
        blocks = np.maximum.reduceat(np.maximum.reduceat(matrix, edges, axis=0), edges, axis=1)
        levels = np.ceil(np.nan_to_num(blocks) * 4).astype(int)
        return "\n".join("".join(" ░▒▓█"[level] * 2 for level in row) for row in levels)
    short = [str(name)[:14] for name in class_names or range(classes)]
    width = max(map(len, short))
    head = " " * width + "".join(f"{label:>6}" for label in range(classes))
    rows = [
        f"{name:>{width}}" + "".join("     ·" if not v else f"{100 * v:6.1f}" for v in row)
        for name, row in zip(short, matrix, strict=True)
    ]
    return "\n".join([head, *rows])


def _human(dataset: Dataset, kind: str, root: str | None) -> NoisySplits:
    folder = root or os.environ.get("LOGIT_BIAS_DATA")
    clean, given = human.labels(
        kind, dataset.name, dataset.classes, Path(folder).expanduser() if folder else None
    )
    made = {}
    for part, rows in (("train", dataset.train_rows), ("val", dataset.val_rows)):
        y = getattr(dataset, f"{part}_y")
        if rows is None or not np.array_equal(clean[rows], y):
            raise NoiseError(f"noise kind {kind!r}: its labels are of other images than {part}'s")
        made[part] = describe(y, given[rows], dataset.classes)
    return NoisySplits(**made)


def _check(kind: str, classes: int, rate: float | None) -> None:
    if kind not in KINDS:
        raise UnknownNoiseError(kind, KINDS)
    if kind in OWN_RATE and rate is not None:
        raise NoiseError(f"noise kind {kind!r} has a rate of its own: leave the rate out")
    if kind not in OWN_RATE and (rate is None or not 0 <= rate <= 1):
        raise NoiseError(f"noise rate = {rate}; allowed: 0 to 1")
    if classes < 2:
        raise NoiseError(f"label noise needs at least 2 classes, not {classes}")


def _check_draw(kind: str, draw: str) -> None:
    if draw not in drawing.DRAWS:
        raise NoiseError(f"noise draw = {draw!r}; allowed: {', '.join(drawing.DRAWS)}")
    if kind == "pdn" and draw != "iid":
        raise NoiseError("noise kind 'pdn' flips each label by itself: draw = iid only")


def _with_name(kind: str, dataset: str, options: dict[str, Any]) -> dict[str, Any]:
    if kind in ("asymmetric", "asymmetric-sequential", "superclass"):
        return {"dataset": dataset, **options}
    return options


def _check_options(kind: str, options: dict[str, Any], allowed: Sequence[str]) -> None:
    for option in options:
        if option not in allowed:
            some = f"; allowed: {', '.join(allowed)}" if allowed else ""
            raise NoiseError(f"noise kind {kind!r} has no option {option!r}{some}")
