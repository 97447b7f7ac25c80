"""Train one row's network again, outside Ray, and compare."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from study.planning.open_study import open_study
from study.planning.plan import Network, Plan, cohort_spec
from study.results.folder import StudyFolder
from study.results.schema import EPOCHS
from trainables.engine.runtime import configure_process
from trainables.engine.trainer import train
from trainables.errors import BadInputError

_NOT_NUMBERS_OF_THE_NETWORK = {"network_id", "epoch", "wall_s", "input_stall_share"}
_OF_THE_ROW = (
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


def retrain(uri: str, network_id: str, device: str = "cpu") -> dict[str, Any]:
    """Train the network of a row alone and compare every number with the row's.

    On the machine whose CPU wrote the row, and with the same versions, nothing differs for an MLP
    or a convolutional network. On a GPU other algorithms serve other cohort sizes, so that numbers
    drift apart with training; docs/engine.md says how far. A pruned network is compared up to the
    epoch in which it was pruned.

    Returns
    -------
    {network_id, device, device_of_row, compared, differences: [{where, row, retrained}]}

    Raises
    ------
    BadInputError: no such row, or it does not follow from the folder's study file.
    """
    folder, plan = open_study(uri)
    found = [r for r in folder.read("trials").to_pylist() if r["network_id"] == network_id]
    if not found:
        raise BadInputError(f"{folder.uri}: no network {network_id}; ids are in trials/*/*.parquet")
    row = found[0]
    configure_process()
    spec = cohort_spec(plan.config, [_network_of(plan, row, folder)])
    result = train(spec, device=device)[0]

    pairs: list[tuple[str, Any, Any]] = []
    if row["status"] != "pruned":
        pairs += [(name, row[name], result.metrics[name]) for name in _OF_THE_ROW]
    again = {epoch["epoch"]: epoch for epoch in result.epochs}
    for epoch in _epochs_of(folder, row):
        pairs += [
            (f"epoch {epoch['epoch']}: {name}", epoch[name], again[epoch["epoch"]][name])
            for name in EPOCHS.names
            if name not in _NOT_NUMBERS_OF_THE_NETWORK
        ]
    return {
        "network_id": network_id,
        "device": device,
        "device_of_row": row["device"],
        "compared": len(pairs),
        "differences": [
            {"where": where, "row": a, "retrained": b}
            for where, a, b in pairs
            if _null_if_nan(a) != _null_if_nan(b)
        ],
    }


def _network_of(plan: Plan, row: Mapping[str, Any], folder: StudyFolder) -> Network:
    """The network that a row is of, by the study file in the folder."""
    for cell in plan.cells:
        for loss in cell.losses:
            if cell.cell_id != row["cell_id"]:
                continue
            if (loss.name, loss.params_json) != (row["loss"], row["loss_params"]):
                continue
            network = Network(
                stage=row["stage"],
                cell=cell,
                loss=loss,
                epsilon=row["epsilon"],
                lr=row["lr"],
                seed=row["seed"],
                arm=row["arm"],
                rule=row["rule"],
                point=row["point"],
                rescale=row["rescale"],
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
