"""A cell's search and sweep as evidence for a surface over ε and learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.data.load import response_metric
from study.results.evidence import CellEvidence, ChosenPoint, EvidenceRow
from study.results.schema import Stage, Status

_LEAST_NETWORKS = 12  # fewer networks make no surface


def cell_evidence(
    rows: pd.DataFrame, config: Mapping[str, Any], metric: str | None = None
) -> CellEvidence | None:
    """The networks of a cell's searches (all replicates) and of its sweep.

    By default their accuracy is measured as the response to ε is: on clean validation labels where
    all rows have them, so that a loss of accuracy has the size that it has on the test set.

    Args:
        rows: the cell's rows of `trials`, all stages.
        config: the study file as run; its `search` gives the ranges, else the rows do.
        metric: another column of accuracies.

    Returns:
        None with too few networks for a surface.
    """
    kept = rows[
        rows["stage"].isin([Stage.SEARCH, Stage.SWEEP])
        & (rows["status"] != Status.PRUNED)
        & rows["rescale"].isna()
        & (rows["lr"] > 0)
    ]
    metric = metric or response_metric(kept)
    kept = kept.dropna(subset=[metric, "epsilon", "lr"])
    order = ["stage", "arm", "seed", "epsilon", "lr", "loss_params", metric]
    kept = kept.sort_values(order, kind="stable")
    if len(kept) < _LEAST_NETWORKS or kept["lr"].nunique() < 2 or kept["epsilon"].nunique() < 2:
        return None
    label = kept["loss"].astype(str) + kept["loss_params"].fillna("").astype(str)
    takes_epsilon = kept["epsilon"].ne(0).groupby(label).any()
    search = config.get("search")
    search = search if isinstance(search, dict) else {}
    return CellEvidence(
        rows=tuple(
            EvidenceRow(
                stage=Stage(row["stage"]),
                arm=row["arm"],
                seed=-2 if pd.isna(row["seed"]) else int(row["seed"]),
                loss=name,
                epsilon=float(row["epsilon"]),
                lr=float(row["lr"]),
                accuracy=float(row[metric]),
                status=Status(row["status"]),
            )
            for name, row in zip(label, kept.to_dict("records"), strict=True)
        ),
        losses={str(name): bool(takes) for name, takes in takes_epsilon.items()},
        epsilon=_range(search.get("epsilon"), kept["epsilon"]),
        lr=_range(search.get("lr"), kept["lr"]),
    )


def confirmed_point(rows: pd.DataFrame) -> ChosenPoint:
    """Where an arm was confirmed.

    Args:
        rows: confirm rows of one pooled arm in one cell, at least one.
    """
    row = rows.iloc[0]
    params = row["loss_params"]
    label = str(row["loss"]) + ("" if pd.isna(params) else str(params))
    return ChosenPoint(label, float(row["epsilon"]), float(row["lr"]))


def _range(setting: Any, values: pd.Series[float]) -> tuple[float, float]:
    """Ends of a searched range, from the study file if it names them."""
    if isinstance(setting, dict):
        low, high = setting.get("low"), setting.get("high")
        if isinstance(low, int | float) and isinstance(high, int | float) and low < high:
            return float(low), float(high)
    return float(values.min()), float(values.max())
