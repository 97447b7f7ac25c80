"""The settings of a study that can be recommended, ranked by validation accuracy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from analysis.data.evidence import cell_evidence, confirmed_point
from analysis.data.load import DEFAULT_MARGIN
from analysis.recommendation.records import Setting
from analysis.response.surface import CellSurface
from study.results.arms import CE, Arm
from study.results.schema import Stage, Status


@dataclass(frozen=True)
class Candidate:
    """A setting that can be recommended.

    Attributes:
        setting: the setting.
        validation: accuracy that search and sweep expect of it on validation labels; None where
            they say nothing.
        rows: its confirm rows on the common seeds; empty where there are none yet.
    """

    setting: Setting
    validation: float | None
    rows: pd.DataFrame

    @property
    def is_ce(self) -> bool:
        """Whether it is plain cross-entropy."""
        return self.setting.loss == CE

    @property
    def rank(self) -> float:
        """Larger is better."""
        return -1.0 if self.validation is None else self.validation


def candidates_of(
    cell_id: str, rows: pd.DataFrame, config: Mapping[str, Any], value_column: str
) -> list[Candidate]:
    """The settings of one cell, the best on validation labels first.

    Their rank comes from the surface over ε and learning rate through all networks of search and
    sweep (docs/statistics.md), at the points where the arms are confirmed. No test accuracy and no
    network of the confirm stage has an influence. An arm that rescales its loss is no candidate.

    Args:
        cell_id: the cell.
        rows: its rows of `trials`, all stages.
        config: the study file as run.
        value_column: the validation accuracy that the search maximises.
    """
    rows = rows[rows["rescale"].isna() & (rows["lr"] > 0)]
    before = rows[(rows["stage"] != Stage.CONFIRM) & (rows["status"] != Status.PRUNED)]
    confirm = rows[(rows["stage"] == Stage.CONFIRM) & rows["replicate"].isna()]
    confirm = confirm.dropna(subset=["arm", "seed", "epsilon"])
    with threadpool_limits(1):
        evidence = cell_evidence(before, config, value_column)
        surface = None if evidence is None else CellSurface(evidence, DEFAULT_MARGIN)
    presets = _presets(config)
    found = []
    for arm, of_arm in confirm.groupby("arm", sort=True):
        point = confirmed_point(of_arm)
        if surface is not None and surface.has(point):
            level: float | None = surface.level(point)
        else:
            level = _level(before, of_arm.iloc[0], value_column)
        setting = _setting(cell_id, str(arm), of_arm.iloc[0], presets)
        found.append(Candidate(setting, level, of_arm))
    if not found:
        found = _of_search(cell_id, before, value_column, presets, confirm)
    return sorted(found, key=lambda candidate: -candidate.rank)


def _of_search(
    cell_id: str,
    before: pd.DataFrame,
    value_column: str,
    presets: Mapping[tuple[str, str], str],
    empty: pd.DataFrame,
) -> list[Candidate]:
    """The best point of each searched arm so far."""
    search = before[(before["stage"] == Stage.SEARCH) & (before["status"] == Status.COMPLETE)]
    search = search.dropna(subset=["arm", value_column])
    best = search.sort_values(value_column, ascending=False, kind="stable").drop_duplicates("arm")
    return [
        Candidate(
            _setting(cell_id, str(row["arm"]), row, presets), float(row[value_column]), empty[:0]
        )
        for _, row in best.iterrows()
    ]


def _level(before: pd.DataFrame, row: pd.Series[Any], value_column: str) -> float | None:
    """Mean validation accuracy of the networks at a point; of its arm's best one without any."""
    same = before[before["loss"] == row["loss"]]
    here = same[
        ((same["epsilon"] - row["epsilon"]).abs() < 1e-9)
        & ((same["lr"] / row["lr"] - 1).abs() < 1e-9)
    ]
    if here[value_column].notna().any():
        return float(here[value_column].mean())
    of_arm = same.loc[same["arm"] == row["arm"], value_column].dropna()
    return float(of_arm.max()) if len(of_arm) else None


def _setting(
    cell_id: str, arm: str, row: pd.Series[Any], presets: Mapping[tuple[str, str], str]
) -> Setting:
    text = row["loss_params"]
    params = {} if pd.isna(text) else json.loads(text)
    loss, label = str(row["loss"]), cell_id.rpartition("/")[2]
    return Setting(
        cell_id=cell_id,
        arm=arm,
        loss=loss,
        params={str(name): float(value) for name, value in params.items()},
        preset=presets.get((loss, label)),
        epsilon=float(row["epsilon"]),
        rule=Arm.of_row(arm).rule,
        lr=float(row["lr"]),
    )


def _presets(config: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """{(loss, last part of the cell id): preset} of the losses that the study file names so."""
    grid = config.get("grid")
    losses = grid.get("loss") if isinstance(grid, dict) else None
    return {
        (str(loss["name"]), f"{loss['name']}-{loss['preset']}"): str(loss["preset"])
        for loss in (losses if isinstance(losses, list) else [])
        if isinstance(loss, dict) and loss.get("preset") and "name" in loss
    }
