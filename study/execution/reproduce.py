"""Reproducing one row: train its network again, outside Ray, and compare every number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from study.execution.result_writer import null_where_unknown
from study.planning.cells import Network
from study.planning.cohort_specs import cohort_spec
from study.planning.open_study import open_study
from study.planning.plan import Plan
from study.results.folder import StudyFolder
from study.results.schema import EPOCHS, Stage, Status
from trainables.engine.runtime import in_training_thread
from trainables.engine.trainer import train
from trainables.errors import BadInputError

_NOT_COMPARED = {"network_id", "epoch", "wall_s", "input_stall_share"}  # columns of `epochs`
_COMPARED = (  # columns of `trials`
    "status",
    "epochs",
    "train_acc_noisy",
    "train_acc_clean",
    "val_acc_noisy",
    "val_acc_clean",
    "test_acc",
    "best_val_acc_noisy",
    "noise_rate_real",
    "logit_std_init",
)


@dataclass(frozen=True)
class Difference:
    """A number that differs between a row and the new training.

    Attributes:
        where: the column, after `epoch <n>: ` for a column of `epochs`.
        row: the value on storage.
        retrained: the value of the new training.
    """

    where: str
    row: Any
    retrained: Any


@dataclass(frozen=True)
class Reproduction:
    """The comparison of a row with a new training of its network.

    Attributes:
        network_id: the network.
        device: the device of the new training, `cpu` or `cuda`.
        device_of_row: the name of the device that trained the row.
        compared: how many numbers were compared.
        differences: the numbers that differ.
    """

    network_id: str
    device: str
    device_of_row: str
    compared: int
    differences: list[Difference]

    def to_json(self) -> dict[str, Any]:
        """The fields, as `logit-bias trial --json` prints them."""
        return asdict(self)


def reproduce(uri: str, network_id: str, device: str = "cpu", trust: bool = False) -> Reproduction:
    """Train the network of a row on its own, and compare every number with the row.

    On the machine whose CPU wrote the row, and with the same versions, all numbers of an MLP or a
    convolutional network are equal. A GPU uses other algorithms for other cohort sizes, so numbers
    drift apart during training; docs/engine.md says how far. A pruned network is compared up to the
    epoch in which it was pruned.

    Args:
        uri: the study folder.
        network_id: the id in the row.
        device: `cpu` or `cuda`.
        trust: whether the folder's study file may import `package.module:name`, which runs code.

    Returns:
        The numbers that differ.

    Raises:
        BadInputError: there is no such row or device, or the folder's study file has no such
            network.
        ResultsError: there is no study in the folder.
    """
    allowed = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if device not in allowed:
        raise BadInputError(f"device {device}: allowed on this machine: {', '.join(allowed)}")
    folder, plan = open_study(uri, trust)
    rows = [r for r in folder.read("trials").to_pylist() if r["network_id"] == network_id]
    if not rows:
        raise BadInputError(f"{folder.uri}: no network {network_id}; ids are in trials/*/*.parquet")
    row = rows[0]
    spec = cohort_spec(plan.config, [_network_of(plan, row, folder)])
    result = in_training_thread(lambda: train(spec, device=device))[0]

    pairs: list[Difference] = []
    if row["status"] != Status.PRUNED:
        metrics = null_where_unknown(result.metrics.to_row(), row["noise_kind"])
        pairs += [Difference(name, row[name], metrics[name]) for name in _COMPARED]
        if row["test_correct"] is not None:  # rows of older versions have none
            right = [(b or b"").hex() for b in (row["test_correct"], metrics["test_correct"])]
            pairs.append(Difference("test_correct", *right))
    retrained = {e.epoch: null_where_unknown(e.to_row(), row["noise_kind"]) for e in result.epochs}
    for epoch in _epochs_of(folder, row):
        number = epoch["epoch"]
        pairs += [
            Difference(f"epoch {number}: {name}", epoch[name], retrained[number][name])
            for name in EPOCHS.names
            if name not in _NOT_COMPARED
        ]
    differences = [p for p in pairs if _null_if_nan(p.row) != _null_if_nan(p.retrained)]
    return Reproduction(network_id, device, row["device"], len(pairs), differences)


def _network_of(plan: Plan, row: Mapping[str, Any], folder: StudyFolder) -> Network:
    """The network of a row, by the study file in the folder."""
    for cell in plan.cells:
        for loss in cell.losses:
            if cell.cell_id != row["cell_id"]:
                continue
            if (loss.name, loss.params_json) != (row["loss"], row["loss_params"]):
                continue
            network = Network(
                stage=Stage(row["stage"]),
                cell=cell,
                loss=loss,
                epsilon=row["epsilon"],
                lr=row["lr"],
                seed=row["seed"],
                arm=row["arm"],
                rule=row["rule"],
                point=row["point"],
                rescale=row["rescale"],
                replicate=row["replicate"],
            )
            if network.network_id == row["network_id"]:
                return network
    raise BadInputError(
        f"{folder.uri}: network {row['network_id']} does not follow from its study.yaml"
    )


def _epochs_of(folder: StudyFolder, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    epochs = folder.read("epochs", stages=[row["stage"]]).to_pylist()
    return sorted(
        (e for e in epochs if e["network_id"] == row["network_id"]), key=lambda e: e["epoch"]
    )


def _null_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
