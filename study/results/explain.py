"""Why a network failed, from its rows alone: the first epoch and quantity that went wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.compute as pc

from study.results.folder import StudyFolder
from study.results.schema import Status
from trainables.errors import BadInputError

SHOWN = ("lr", "train_loss", "grad_norm", "mean_delta", "vanishing_share", "val_acc_noisy")
"""The columns of `epochs` that an explanation shows."""

_SETTINGS = ("stage", "cell_id", "arm", "replicate", "seed", "loss", "loss_params", "epsilon", "lr")
_MEASURED = {  # columns of `epochs` that are null where they are not finite
    "train_loss": "the training loss",
    "grad_norm": "the gradient norm",
    "mean_delta": "the gradient of the labelled class's logit",
    "mean_activation": "the probability of the labelled class",
}
_ACCURACIES = ("train_acc_noisy", "val_acc_noisy")
_NO_BETTER_THAN_GUESSING = 1.5  # times the accuracy of guessing
_EPOCHS_BEFORE, _EPOCHS_AFTER = 3, 1


@dataclass(frozen=True)
class Explanation:
    """Why a network failed, or that it did not.

    Attributes:
        network_id: the network.
        status: how its training ended.
        settings: what was trained, by column of `trials`.
        epoch: the first epoch that went wrong; None where none did.
        quantity: the column of `epochs` that is not finite there; None where none is.
        sentences: what happened, in words.
        epochs: rows of `epochs` around that epoch, or the first and last ones; columns `epoch` and
            `SHOWN`.
        cohort: {status: number of networks} of the others that trained in the same cohort.
    """

    network_id: str
    status: str
    settings: Mapping[str, Any]
    epoch: int | None
    quantity: str | None
    sentences: tuple[str, ...]
    epochs: tuple[Mapping[str, Any], ...]
    cohort: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The fields, as `logit-bias trial --explain --json` prints them."""
        return asdict(self)


def explain(folder: StudyFolder, network_id: str) -> Explanation:
    """Explain how a network's training ended.

    Args:
        folder: the study folder.
        network_id: the id in the row.

    Raises:
        BadInputError: there is no such row.
        ResultsError: there is no study in the folder.
    """
    folder.study_file()
    columns = ["schema_version", "network_id", "status", "cohort_id", "classes", "epochs"]
    trials = folder.read("trials", columns=[*columns, *_SETTINGS, "val_acc_noisy"])
    found = trials.filter(pc.equal(trials["network_id"], network_id)).to_pylist()
    if not found:
        raise BadInputError(f"{folder.uri}: no network {network_id}; ids are in trials/*/*.parquet")
    row = found[0]
    table = folder.read("epochs", [row["stage"]])
    own = table.filter(pc.equal(table["network_id"], network_id)).to_pylist()
    own.sort(key=lambda epoch: epoch["epoch"])
    in_cell = trials.filter(pc.equal(trials["cell_id"], row["cell_id"])).to_pylist()
    cohort = [
        r["status"]
        for r in trials.filter(pc.equal(trials["cohort_id"], row["cohort_id"])).to_pylist()
        if r["network_id"] != network_id
    ]
    status, guessing = Status(row["status"]), 1 / row["classes"]
    epoch, quantity = None, None
    if status == Status.DIVERGED:
        epoch = _first_diverged(own, guessing)
        quantity = _not_finite(own, epoch)
        sentences = [_divergence(own, epoch, quantity), *_learning_rates(row, in_cell)]
    elif status == Status.PRUNED:
        sentences = [
            f"it was pruned after epoch {row['epochs']}, with an accuracy of "
            f"{_number(own[-1]['val_acc_noisy'] if own else None)} on noisy validation labels: "
            "other networks of its round were better there (search.rungs)"
        ]
    elif own and own[-1]["val_acc_noisy"] <= _NO_BETTER_THAN_GUESSING * guessing:
        epoch = own[0]["epoch"]
        sentences = [_no_learning(own, guessing)]
    else:
        quantity = _not_finite(own, None)
        finite = (
            "all its numbers are finite"
            if quantity is None
            else (f"it learned, although {_MEASURED[quantity]} ({quantity}) was not finite once")
        )
        sentences = [f"it was trained to the end, and {finite}"]
    return Explanation(
        network_id=network_id,
        status=status.value,
        settings={name: row[name] for name in _SETTINGS},
        epoch=epoch,
        quantity=quantity,
        sentences=tuple([*sentences, _cohort_sentence(cohort)]),
        epochs=tuple(_around(own, epoch)),
        cohort={status: cohort.count(status) for status in sorted(set(cohort))},
    )


def _first_diverged(own: Sequence[Mapping[str, Any]], guessing: float) -> int | None:
    """The epoch from which on the accuracies are those of guessing, as a diverged network has."""
    first = None
    for epoch in reversed(own):
        if any(epoch[name] != guessing for name in _ACCURACIES):
            break
        first = epoch["epoch"]
    return first


def _not_finite(own: Sequence[Mapping[str, Any]], until: int | None) -> str | None:
    """The first quantity that is not finite, up to and including an epoch."""
    for epoch in own:
        if until is not None and epoch["epoch"] > until:
            return None
        for name in _MEASURED:
            if epoch[name] is None:
                return name
    return None


def _divergence(own: Sequence[Mapping[str, Any]], epoch: int | None, quantity: str | None) -> str:
    if epoch is None:
        return "it diverged; its rows of epochs do not say when"
    what = (
        "its parameters: their norm had grown a thousandfold, or a parameter or a running "
        "statistic was not finite, while the loss still was"
        if quantity is None
        else f"{_MEASURED[quantity]} ({quantity}), which was not finite"
    )
    text = f"it diverged in epoch {epoch}: the first to go wrong was {what}"
    before = [e for e in own if e["epoch"] < epoch]
    norms = [e["grad_norm"] for e in before if e["grad_norm"] is not None]
    if before and norms:
        text += (
            f"; before that, the loss went from {_number(before[0]['train_loss'])} to "
            f"{_number(before[-1]['train_loss'])}, and the gradient norm reached "
            f"{_number(max(norms))}"
        )
    return text


def _learning_rates(row: Mapping[str, Any], in_cell: Sequence[Mapping[str, Any]]) -> list[str]:
    """How other networks of the cell fared at larger and smaller learning rates."""
    others = [r for r in in_cell if r["network_id"] != row["network_id"]]
    counts = []
    for name, part in (
        (f"learning rate {row['lr']:.3g} or more", [r for r in others if r["lr"] >= row["lr"]]),
        ("a smaller one", [r for r in others if r["lr"] < row["lr"]]),
    ):
        diverged = sum(r["status"] == Status.DIVERGED for r in part)
        counts.append(f"{diverged} of {len(part)} with {name}")
    complete = [r["lr"] for r in others if r["status"] == Status.COMPLETE]
    largest = f"; the largest that did not is {max(complete):.3g}" if complete else ""
    return [f"of the cell's other networks, {' and '.join(counts)} diverged{largest}"]


def _no_learning(own: Sequence[Mapping[str, Any]], guessing: float) -> str:
    first, last = own[0], own[-1]
    return (
        f"it did not diverge and learned nothing: its accuracy on noisy validation labels is "
        f"{_number(last['val_acc_noisy'])}, and guessing gives {_number(guessing)}; in epoch "
        f"{first['epoch']} the gradient vanished on "
        f"{_number(100 * (first['vanishing_share'] or 0))} % of the examples, and the labelled "
        f"class had a mean probability of {_number(first['mean_activation'])}"
    )


def _cohort_sentence(others: Sequence[str]) -> str:
    if not others:
        return "it trained alone"
    complete = sum(status != Status.DIVERGED for status in others)
    return (
        f"{complete} of the {len(others)} others in its cohort did not diverge; members of a "
        "cohort do not influence each other"
    )


def _around(own: Sequence[Mapping[str, Any]], epoch: int | None) -> list[dict[str, Any]]:
    """The rows to show: around an epoch, else the first and the last ones."""
    if epoch is None:
        kept = [*own[:2], *own[max(2, len(own) - 2) :]]
    else:
        kept = [e for e in own if epoch - _EPOCHS_BEFORE <= e["epoch"] <= epoch + _EPOCHS_AFTER]
    return [{"epoch": e["epoch"], **{name: e[name] for name in SHOWN}} for e in kept]


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"
