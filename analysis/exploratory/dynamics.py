"""How do networks learn? Speed, vanishing gradients, memorised labels, last against best epoch.

Exploratory: these tables describe; no verdict depends on them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.data.load import Study
from study.results.schema import Stage

# The search is adaptive, so its networks are not a representative sample.
NON_ADAPTIVE_STAGES = (Stage.SWEEP, Stage.CONFIRM)
REACHED_SHARE = 0.9  # of the final accuracy, for `epochs_to_90`
_FROM_EPOCHS = ["epochs_to_90", "best_minus_last", "vanishing_first", "vanishing_last"]


def epoch_frame(study: Study) -> pd.DataFrame:
    """Validation accuracy and vanishing gradients per epoch of every network of sweep and confirm.

    Args:
        study: as loaded.

    Returns:
        columns trial (index into `study.trials`), epoch, vanishing_share, accuracy (on clean labels
        if every row has them, else on noisy ones), sorted by trial and epoch.
    """
    columns = ["epoch", "val_acc_clean", "val_acc_noisy", "vanishing_share"]
    rows = study.epochs(columns, NON_ADAPTIVE_STAGES)
    clean, noisy = rows.pop("val_acc_clean"), rows.pop("val_acc_noisy")
    rows["accuracy"] = clean if clean.notna().all() else noisy
    order = np.lexsort((rows["epoch"].to_numpy(), rows["trial"].to_numpy()))
    return rows.iloc[order].reset_index(drop=True)


def network_dynamics(study: Study, epochs: pd.DataFrame) -> pd.DataFrame:
    """One row per network of sweep and confirm.

    Args:
        study: as loaded.
        epochs: from `epoch_frame`.

    Returns:
        cell_id, stage, arm, replicate, epsilon, lr, and
        epochs_to_90: first epoch with 90 % of the last epoch's accuracy;
        best_minus_last: accuracy lost after the best epoch, a fraction;
        vanishing_first, vanishing_last: share of training examples in the first and the last epoch
        whose gradient is below 1 % of its largest possible value;
        memorised: share of wrong training labels that the network reproduces minus the share that
        it corrects, in [−1, 1]; null without label noise.
    """
    trials = study.trials[study.trials["stage"].isin(NON_ADAPTIVE_STAGES)]
    out = trials[["cell_id", "stage", "arm", "replicate", "epsilon", "lr"]].copy()
    trial = epochs["trial"].to_numpy()
    accuracy = epochs["accuracy"].to_numpy(dtype=float)
    first = (
        np.flatnonzero(np.r_[True, trial[1:] != trial[:-1]]) if len(trial) else np.array([], int)
    )
    if len(first):
        last = np.r_[first[1:], len(trial)] - 1
        length = last - first + 1
        final = accuracy[last]
        reached = accuracy >= np.repeat(REACHED_SHARE * final, length)
        epoch = epochs["epoch"].to_numpy(dtype=float)
        earliest = np.minimum.reduceat(np.where(reached, epoch, np.inf), first)
        out.loc[trial[first], "epochs_to_90"] = np.where(np.isfinite(earliest), earliest, np.nan)
        best = np.maximum.reduceat(np.nan_to_num(accuracy, nan=-1.0), first)
        out.loc[trial[first], "best_minus_last"] = best - final
        vanishing = epochs["vanishing_share"].to_numpy(dtype=float)
        out.loc[trial[first], "vanishing_first"] = vanishing[first]
        out.loc[trial[first], "vanishing_last"] = vanishing[last]
    else:
        out[_FROM_EPOCHS] = np.nan
    # Noisy minus clean accuracy counts wrong labels only: +1 if the network reproduces one, −1 if
    # it predicts the true class, 0 for a third class.
    rate = trials["noise_rate_real"].fillna(trials["noise_rate"])
    difference = trials["train_acc_noisy"] - trials["train_acc_clean"]
    out["memorised"] = np.where(rate > 0, difference / rate.where(rate > 0, 1.0), np.nan)
    return out


def summarise(networks: pd.DataFrame) -> pd.DataFrame:
    """Means of `network_dynamics` per cell, stage, arm, replicate, ε and learning rate, with n.

    n is the number of networks.
    """
    keys = ["cell_id", "stage", "arm", "replicate", "epsilon", "lr"]
    grouped = networks.groupby(keys, dropna=False)
    means = grouped[[*_FROM_EPOCHS, "memorised"]].mean()
    return means.assign(n=grouped.size()).reset_index()


def learning_curves(study: Study, epochs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy per epoch in the confirm stage: mean, minimum and maximum over networks.

    An arm is shown on the common seeds; an arm without them, on those of its replicates.

    Args:
        study: as loaded.
        epochs: from `epoch_frame`.

    Returns:
        columns cell_id, arm, epoch, mean, low, high (fractions).
    """
    confirm = study.stage(Stage.CONFIRM).dropna(subset=["arm"])
    is_common = confirm["replicate"].isna()
    has_common = is_common.groupby([confirm["cell_id"], confirm["arm"]]).transform("any")
    confirm = confirm[is_common | ~has_common.astype(bool)]
    rows = epochs[epochs["trial"].isin(confirm.index)]
    if rows.empty:
        return pd.DataFrame(columns=["cell_id", "arm", "epoch", "mean", "low", "high"])
    group = confirm.groupby(["cell_id", "arm"]).ngroup()
    names = confirm[["cell_id", "arm"]].assign(group=group).drop_duplicates("group")
    key = group.reindex(rows["trial"]).to_numpy()
    curve = rows.groupby([key, rows["epoch"].to_numpy()])["accuracy"].agg(["mean", "min", "max"])
    curve = curve.rename_axis(["group", "epoch"]).reset_index().merge(names, on="group")
    curve = curve.rename(columns={"min": "low", "max": "high"})
    return curve[["cell_id", "arm", "epoch", "mean", "low", "high"]]
