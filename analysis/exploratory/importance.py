"""Which settings explain the accuracy in a sweep: shares of variance by functional ANOVA.

The sweep is a full grid with equally many networks per combination. Main effects are therefore
variances of marginal means, and the remainder is interaction (Hooker 2007, "Generalized functional
ANOVA diagnostics"); no model is fitted. The search is not used: an adaptive sampler concentrates
on good values, which distorts importances.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def grid_importance(
    rows: pd.DataFrame, metric: str, factors: Sequence[str]
) -> dict[str, float] | None:
    """Shares of the variance of mean accuracy over a full grid.

    Args:
        rows: networks of a sweep.
        metric: the accuracy column.
        factors: columns that span the grid; columns with a single value are ignored.

    Returns:
        {factor: share, …, interaction: share}, which sum to 1; None if the grid has a gap, fewer
        than two factors vary, or accuracy is constant.
    """
    used = [f for f in factors if rows[f].nunique() > 1]
    if len(used) < 2:
        return None
    means = rows.groupby(used)[metric].mean()
    levels = [sorted(rows[f].unique()) for f in used]
    full = means.reindex(pd.MultiIndex.from_product(levels, names=used))
    if full.isna().any():
        return None
    y = full.to_numpy(dtype=float).reshape([len(level) for level in levels])
    total = float(y.var())
    if total == 0:
        return None
    axes = range(y.ndim)
    main = {
        f: float(y.mean(axis=tuple(a for a in axes if a != k)).var() / total)
        for k, f in enumerate(used)
    }
    return {**main, "interaction": float(1 - np.sum(list(main.values())))}


def importance_table(sweep: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Importance of ε, learning rate and loss, one row per data set, noise and model.

    Losses are compared over the ε and learning rates that all of them share.

    Args:
        sweep: `trials` of the sweep stage.
        metric: the accuracy column.

    Returns:
        columns dataset, noise_kind, noise_rate, model, losses, epsilon, lr, loss, interaction.
    """
    keys = ["dataset", "noise_kind", "noise_rate", "model"]
    columns = [*keys, "losses", "epsilon", "lr", "loss", "interaction"]
    table = []
    for key, rows in sweep.groupby(keys, dropna=False):
        labelled = rows.assign(loss=rows["loss"] + " " + rows["loss_params"].fillna("{}"))
        losses = labelled["loss"].nunique()
        for factor in ("epsilon", "lr"):
            common = labelled.groupby(factor)["loss"].nunique()
            labelled = labelled[labelled[factor].isin(common[common == losses].index)]
        shares = grid_importance(labelled, metric, ["epsilon", "lr", "loss"])
        if shares is not None:
            table.append({**dict(zip(keys, key, strict=True)), "losses": losses, **shares})
    return pd.DataFrame(table, columns=columns)
