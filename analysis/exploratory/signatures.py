"""Signatures of failure in learning curves: memorisation, vanishing gradients, drop, flat loss.

Exploratory: these describe networks of the confirm stage; no verdict depends on them. A signature
is a rule on one network's rows of `epochs`, with the thresholds of `THRESHOLDS`. Tests plant curves
with and without each signature and count hits and false alarms (docs/statistics.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.load import Study
from analysis.records import Record
from study.results.schema import Stage, Status

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

TABLE_COLUMNS = ["cell_id", "arm", "signature", "networks", "n", "share"]
_FROM_EPOCHS = ["epoch", "test_acc", "train_loss", "train_acc_noisy", "train_acc_clean", "lr"]
_FROM_EPOCHS += ["vanishing_share"]


class Signature(StrEnum):
    """A way in which training fails, as its curves show it."""

    MEMORISATION = "memorisation"
    VANISHING_GRADIENTS = "vanishing gradients"
    DROP_AT_DECAY = "drop at decay"
    FLAT_LOSS = "flat loss"

    @property
    def meaning(self) -> str:
        """What it says about a network, in a sentence."""
        return _MEANINGS[self]


_MEANINGS = {
    Signature.MEMORISATION: "test accuracy falls from its peak while the network fits more and "
    "more of the wrong labels; fewer epochs, a more robust loss or a smaller ε may prevent it",
    Signature.VANISHING_GRADIENTS: "the gradient vanishes on nearly all examples in every epoch, "
    "and the network learns next to nothing; a larger ε is the remedy that this study is about",
    Signature.DROP_AT_DECAY: "test accuracy holds while the learning rate is high, and falls once "
    "it has decayed; under label noise, small steps often fit wrong labels",
    Signature.FLAT_LOSS: "the training loss stands still and the network learns next to nothing, "
    "although gradients do not vanish on nearly all examples; they may be weak (a larger ε or "
    "learning rate) or cancel out, or units may be dead",
}


@dataclass(frozen=True)
class Thresholds(Record):
    """When a curve shows a signature.

    Attributes:
        epochs: fewest epochs in which memorisation can be told, an integer.
        decay_epochs: fewest epochs in which a drop at decay can be told, an integer.
        fall: least fall of the test accuracy, a fraction.
        scatters: least fall in multiples of the curve's scatter between neighbouring epochs.
        fit_rise: least rise of the wrong-label fit since the peak: the share of wrong training
            labels that the network reproduces minus the share that it corrects.
        decayed: the learning rate has decayed below this share of its largest value.
        vanishing: least share of examples with a vanishing gradient, in every epoch.
        chance: largest accuracy above that of guessing that counts as learning next to nothing, a
            share of the distance from guessing to 1.
        flat: largest change of the training loss over all epochs, a share of its largest size.
    """

    epochs: int = 8
    decay_epochs: int = 12
    fall: float = 0.02
    scatters: float = 2.5
    fit_rise: float = 0.10
    decayed: float = 0.5
    vanishing: float = 0.9
    chance: float = 0.05
    flat: float = 0.05


THRESHOLDS = Thresholds()

_LEVEL_SHARE = 0.1  # of the epochs, over which the last level is averaged


@dataclass(frozen=True)
class Curves:
    """Learning curves of networks with the same number of epochs; NaN where unknown.

    Attributes:
        accuracy: on correct labels, fractions, shape [networks, epochs].
        train_loss: same shape.
        train_accuracy: on the labels that are trained on, wrong ones included, same shape.
        wrong_label_fit: share of wrong training labels that are reproduced minus the share that is
            corrected, in [−1, 1], same shape; NaN without label noise and where it is unknown.
        lr: at the epoch's last step, same shape.
        vanishing_share: share of examples with a vanishing gradient, same shape.
        classes: number of classes, shape [networks].
    """

    accuracy: Array
    train_loss: Array
    train_accuracy: Array
    wrong_label_fit: Array
    lr: Array
    vanishing_share: Array
    classes: Array


@dataclass(frozen=True)
class Detected:
    """A signature in some networks, each of shape [networks].

    Attributes:
        shown: whether the network shows it.
        examined: whether its curves can tell.
    """

    shown: Flags
    examined: Flags


@dataclass(frozen=True)
class SignatureCount(Record):
    """A signature in an arm of a cell.

    Attributes:
        cell_id: the cell as in `trials`; plain cross-entropy has its own.
        arm: the arm.
        signature: the value of a `Signature`.
        networks: number of the arm's networks that show it.
        n: number of the arm's networks whose curves can tell.
    """

    cell_id: str
    arm: str
    signature: str
    networks: int
    n: int


@dataclass(frozen=True)
class FailureSignatures(Record):
    """What the learning curves of the confirm stage show.

    Attributes:
        networks: number of networks with curves.
        found: the signatures that at least one network of an arm shows.
        thresholds: when a curve shows a signature.
    """

    networks: int
    found: list[SignatureCount]
    thresholds: Thresholds


def detect(curves: Curves, thresholds: Thresholds = THRESHOLDS) -> dict[Signature, Detected]:
    """Find each signature in each network.

    Args:
        curves: of networks with the same number of epochs.
        thresholds: when a curve shows a signature.
    """
    accuracy = curves.accuracy
    known = _finite(accuracy)
    guessing = 1.0 / curves.classes
    learned = (_last_level(accuracy) - guessing) / (1.0 - guessing)
    by_chance = learned < thresholds.chance
    vanishing = _finite(curves.vanishing_share) & known
    vanishes = vanishing & by_chance & (curves.vanishing_share.min(1) > thresholds.vanishing)
    loss = curves.train_loss
    several = np.full(len(loss), loss.shape[1] > 1)  # one epoch shows no change
    flat = known & _finite(loss) & several
    stands_still = np.ptp(loss, 1) < thresholds.flat * np.abs(loss).max(1)
    return {
        Signature.MEMORISATION: _memorisation(curves, thresholds),
        Signature.VANISHING_GRADIENTS: Detected(vanishes, vanishing),
        Signature.DROP_AT_DECAY: _drop_at_decay(curves, thresholds),
        Signature.FLAT_LOSS: Detected(flat & by_chance & stands_still & ~vanishes, flat),
    }


def signature_table(study: Study) -> pd.DataFrame:
    """How many networks of each arm of the confirm stage show each signature.

    Diverged networks are left out. Studies without rows of `epochs` give an empty table.

    Args:
        study: as loaded.

    Returns:
        columns cell_id, arm, signature, networks (that show it), n (whose curves can tell), share;
        rows with n of at least 1.
    """
    parts = []
    for trials, curves in _curves(study):
        names = trials[["cell_id", "arm"]].reset_index(drop=True)
        for signature, found in detect(curves).items():
            columns = {"signature": signature.value, "networks": found.shown, "n": found.examined}
            parts.append(names.assign(**columns))
    if not parts:
        return pd.DataFrame(columns=TABLE_COLUMNS)
    rows = pd.concat(parts)
    keys = ["cell_id", "arm", "signature"]
    counts = rows.groupby(keys, sort=False)[["networks", "n"]].sum().reset_index()
    order = {signature.value: i for i, signature in enumerate(Signature)}
    counts["order"] = counts["signature"].map(order)
    counts = counts[counts["n"] > 0].sort_values(["cell_id", "arm", "order"])
    return counts.assign(share=counts["networks"] / counts["n"])[TABLE_COLUMNS].reset_index(
        drop=True
    )


def failure_signatures(table: pd.DataFrame) -> FailureSignatures | None:
    """What `verdict.json` holds of a table; None where the rows have no epochs.

    Args:
        table: from `signature_table`.
    """
    if table.empty:
        return None
    # Every network with curves counts for at least one signature.
    networks = int(table.groupby(["cell_id", "arm"])["n"].max().sum())
    found = table[table["networks"] > 0]
    counts = [
        SignatureCount(
            str(row["cell_id"]),
            str(row["arm"]),
            str(row["signature"]),
            int(row["networks"]),
            int(row["n"]),
        )
        for row in found.to_dict("records")
    ]
    return FailureSignatures(networks, counts, THRESHOLDS)


def _curves(study: Study) -> Iterator[tuple[pd.DataFrame, Curves]]:
    """The networks of the confirm stage with their curves, by number of epochs."""
    confirm = study.stage(Stage.CONFIRM).dropna(subset=["arm"])
    confirm = confirm[confirm["status"] == Status.COMPLETE]
    rows = study.epochs(_FROM_EPOCHS, [Stage.CONFIRM])
    rows = rows[rows["trial"].isin(confirm.index)].sort_values(["trial", "epoch"])
    length = rows.groupby("trial")["epoch"].transform("size")
    for epochs in sorted(length.unique()):
        same = rows[length == epochs]
        trials = confirm.loc[same["trial"].to_numpy()[::epochs]]
        columns = {
            name: same[name].to_numpy(dtype=float).reshape(-1, epochs)
            for name in _FROM_EPOCHS
            if name != "epoch"
        }
        rate = trials["noise_rate_realised"].to_numpy(dtype=float)[:, None]
        # The difference counts wrong labels only: +1 where the network reproduces one, −1 where it
        # predicts the true class, 0 for a third class.
        difference = columns["train_acc_noisy"] - columns["train_acc_clean"]
        fit = np.where(rate > 0, difference / np.where(rate > 0, rate, 1.0), np.nan)
        yield (
            trials,
            Curves(
                columns["test_acc"],
                columns["train_loss"],
                columns["train_acc_noisy"],
                fit,
                columns["lr"],
                columns["vanishing_share"],
                trials["classes"].to_numpy(dtype=float),
            ),
        )


def _memorisation(curves: Curves, thresholds: Thresholds) -> Detected:
    """A fall of the test accuracy while wrong labels are learned.

    The accuracy on the training labels must rise as well: in a network that collapses, the fit of
    wrong labels rises too, but only because fewer of them are corrected.
    """
    accuracy, fit, trained = curves.accuracy, curves.wrong_label_fit, curves.train_accuracy
    examined = _finite(accuracy) & _finite(fit)
    examined &= np.full(len(fit), fit.shape[1] >= thresholds.epochs)
    smooth = _median_of_three(accuracy)
    peak = smooth.argmax(1)
    fall = smooth.max(1) - _last_level(accuracy)
    at_peak = np.arange(len(fit)), peak
    shown = fall > _least_fall(accuracy, thresholds)
    shown &= _last_level(fit) - fit[at_peak] > thresholds.fit_rise
    shown &= _last_level(trained) > trained[at_peak]
    return Detected(examined & shown, examined)


def _drop_at_decay(curves: Curves, thresholds: Thresholds) -> Detected:
    """A fall after the decay's start, of an accuracy that had not fallen before."""
    accuracy, lr = curves.accuracy, curves.lr
    networks, epochs = accuracy.shape
    shown, examined = np.zeros(networks, bool), np.zeros(networks, bool)
    if epochs < thresholds.decay_epochs:
        return Detected(shown, examined)
    largest = lr.max(1, keepdims=True)
    is_later = np.arange(epochs) > lr.argmax(1)[:, None]
    decayed = is_later & (lr < thresholds.decayed * largest)
    start = np.where(decayed.any(1), decayed.argmax(1), epochs)
    usable = _finite(accuracy) & _finite(lr) & (start > 0)
    least, smooth = _least_fall(accuracy, thresholds), _median_of_three(accuracy)
    last = _last_level(accuracy)
    for first in np.unique(start[usable & (start < epochs)]):
        of = usable & (start == first)
        earlier, best = smooth[of, :first].max(1), smooth[of, first - 1 :].max(1)
        shown[of] = (earlier - best <= least[of]) & (best - last[of] > least[of])
        examined[of] = True
    return Detected(shown, examined)


def _least_fall(accuracy: Array, thresholds: Thresholds) -> Array:
    """The fall that counts, per network: above the threshold and above the curve's own scatter."""
    second = np.abs(np.diff(accuracy, n=2, axis=1))
    # The second difference of independent noise has √6 times its standard deviation.
    scatter = 1.4826 * np.median(second, axis=1) / math.sqrt(6.0) if second.shape[1] else 0.0
    return np.maximum(thresholds.fall, thresholds.scatters * scatter)


def _finite(values: Array) -> Flags:
    """Whether all epochs of a network are known."""
    return np.array(np.isfinite(values).all(1), dtype=bool)


def _last_level(values: Array) -> Array:
    """Mean over the last tenth of the epochs, at least one."""
    last = max(1, round(_LEVEL_SHARE * values.shape[1]))
    level: Array = values[:, -last:].mean(1)
    return level


def _median_of_three(values: Array) -> Array:
    """Running median over three epochs; the first and the last epoch stay."""
    padded = np.pad(values, ((0, 0), (1, 1)), mode="edge")
    smooth: Array = np.median([padded[:, :-2], values, padded[:, 2:]], axis=0)
    return smooth
