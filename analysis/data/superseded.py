"""Confirm networks of choices that a search has given up, because it has grown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from study.results.arms import BEST
from study.results.schema import Stage, Status


def superseded_choices(trials: pd.DataFrame, config: Mapping[str, Any]) -> pd.Series[bool]:
    """Which confirm networks are at a point that their search, since it grew, no longer chooses.

    The choice of a search is the best of its networks. Networks at another point of the same search
    are an earlier choice. Pooled arms of a study with the arm `best` have one point only.

    Args:
        trials: rows of `trials`.
        config: the study file as run; its `search.select_on` says which accuracy a search
            maximises.

    Returns:
        One value per row.
    """
    point = ["loss", "loss_params", "epsilon", "lr"]
    search_of = ["cell_id", "arm", "_replicate"]
    table = trials.assign(_replicate=trials["replicate"].fillna(-1))
    is_choice = (table["stage"] == Stage.CONFIRM) & table["arm"].notna()
    if (table.loc[is_choice, "arm"] == BEST).any():
        is_choice &= table["replicate"].notna()
    confirmed = table.loc[is_choice, [*search_of, *point]].drop_duplicates()
    several = confirmed[confirmed.duplicated(search_of, keep=False)]
    if several.empty:
        return pd.Series(False, index=trials.index)
    search = config.get("search")
    on_clean = isinstance(search, dict) and search.get("select_on") == "val_clean"
    value = "val_acc_clean" if on_clean else "val_acc_noisy"
    searched = table[(table["stage"] == Stage.SEARCH) & (table["status"] != Status.PRUNED)]
    candidates = searched.merge(several, on=[*search_of, *point])
    candidates = candidates.assign(_diverged=candidates["status"] == Status.DIVERGED)
    ranked = candidates.sort_values(
        ["_diverged", value, "point"], ascending=[True, False, True], kind="stable"
    )
    earlier = ranked[ranked.duplicated(search_of)][[*search_of, *point]]
    keys = pd.MultiIndex.from_frame(table[[*search_of, *point]])
    return is_choice & keys.isin(pd.MultiIndex.from_frame(earlier))
