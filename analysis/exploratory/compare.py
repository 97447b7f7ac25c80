"""Studies side by side, and next to published accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import pandas as pd

from analysis.data.load import LoadError, load
from analysis.data.provenance import provenance
from study.results.arms import BEST, CE, TUNED, ZERO, Arm
from study.results.schema import Stage

# The arm in `published.csv` that an arm of ours stands for; analytic arms are `biased` too.
PUBLISHED_ARM = {BEST: "biased", TUNED: "biased", ZERO: "plain", CE: "plain"}
COLUMNS = ["dataset", "noise_kind", "noise_rate", "model", "loss", "arm"]


def compare(folder_uris: Sequence[str], published: bool = True) -> pd.DataFrame:
    """Test accuracies of the confirm stages of several studies.

    Args:
        folder_uris: study folders; studies of the same name are named by their folder.
        published: add the accuracies of `published_accuracies` for the same data set, noise and
            loss, for any model: they give an order of magnitude, not a paired comparison.

    Returns:
        columns dataset, noise_kind, noise_rate, model, loss, arm; then for every study its mean
        accuracy (`<name>`), standard deviation over seeds (`<name> sd`) and number of seeds
        (`<name> n`); then published and source. Accuracies are fractions.

    Raises:
        LoadError: no folder, a folder that cannot be read, or no confirm stage in any.
    """
    if not folder_uris:
        raise LoadError("compare: no study folder given")
    repeated = sorted({uri for uri in folder_uris if list(folder_uris).count(uri) > 1})
    if repeated:
        raise LoadError(f"compare: {repeated[0]} is given twice")
    studies = [load(uri) for uri in folder_uris]
    names = [s.name for s in studies]
    names = [s.uri if names.count(s.name) > 1 else s.name for s in studies]
    tables = []
    for name, study in zip(names, studies, strict=True):
        confirm = study.stage(Stage.CONFIRM).dropna(subset=["test_acc", "arm"])
        confirm = confirm.assign(
            # Plain cross-entropy is loss ce and arm ce, also inside a cell of another loss.
            loss=confirm["loss"].where(confirm["arm"] != CE, CE)
        )
        summary = confirm.groupby(COLUMNS, dropna=False)["test_acc"].agg(["mean", "std", "count"])
        tables.append(summary.set_axis([name, f"{name} sd", f"{name} n"], axis=1))
    compared = pd.concat(tables, axis=1)
    if compared.empty:
        raise LoadError(f"{', '.join(folder_uris)}: no confirm stage to compare")
    compared = compared.sort_index().reset_index()
    if not published:
        return compared
    keys = ["dataset", "noise_kind", "noise_rate", "loss"]
    by_setting = published_accuracies().groupby([*keys, "arm"], as_index=False)
    accuracies = by_setting.agg(published=("accuracy", "first"), source=("source", "first"))
    arm = compared["arm"].map(lambda name: _published_arm(str(name)))
    merged = compared.assign(_arm=arm, noise_rate=compared["noise_rate"].round(6)).merge(
        accuracies.rename(columns={"arm": "_arm"}), how="left", on=[*keys, "_arm"]
    )
    return merged.drop(columns="_arm")


def _published_arm(arm: str) -> str:
    return "biased" if Arm.of_row(arm).is_analytic else PUBLISHED_ARM.get(arm, arm)


def verdicts(folder_uris: Sequence[str]) -> pd.DataFrame:
    """One row per study: pooled value with its interval, verdict, and origin of the rows.

    Args:
        folder_uris: study folders.

    Raises:
        LoadError: a folder that cannot be analysed.
    """
    from analysis.verdict import compute

    rows = []
    for uri in folder_uris:
        analysis = compute(uri)
        pooled, origin = analysis.verdict.pooled, provenance(analysis.study)
        rows.append(
            {
                "study": analysis.study.name,
                "folder": uri,
                "value": pooled.value.mean,
                "value_low": pooled.value.low,
                "value_high": pooled.value.high,
                "value_n": pooled.value.n,
                "margin": pooled.margin,
                "cells": pooled.cells,
                "evidence_cells": pooled.evidence_cells,
                "verdict": pooled.verdict.value,
                "networks": sum(origin.networks.values()),
                "device": ", ".join(origin.device),
                "git_commit": ", ".join(commit[:12] for commit in origin.git_commit),
            }
        )
    return pd.DataFrame(rows)


@cache
def published_accuracies() -> pd.DataFrame:
    """Published test accuracies at the last epoch: `analysis/exploratory/published.csv`.

    Returns:
        columns dataset, noise_kind, noise_rate, loss, arm (plain | biased), accuracy (fraction),
        model, source.
    """
    with (files("analysis.exploratory") / "published.csv").open() as stream:
        return pd.read_csv(stream, comment="#")
