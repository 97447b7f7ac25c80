"""Studies side by side, and next to published tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import pandas as pd

from analysis.data.load import ANALYTIC, LoadError, load, provenance

COLUMNS = ["dataset", "noise_kind", "noise_rate", "model", "loss", "arm"]


def compare(folder_uris: Sequence[str], published: bool = True) -> pd.DataFrame:
    """Test accuracies of the confirm stages of several studies, a column a study.

    Args:
        folder_uris: study folders; two studies of one name are told apart by their folder.
        published: add the figures of `published_accuracies` for the same data set, noise and loss,
            whatever their model: they say where the field stands and are no paired comparison.

    Returns:
        columns dataset, noise_kind, noise_rate, model, loss, arm; then for every study its mean
        accuracy (`<name>`), standard deviation over seeds (`<name> sd`) and number of seeds
        (`<name> n`); then published and source. Accuracies are fractions.

    Raises:
        LoadError: a folder that cannot be read, or none with a confirm stage.
    """
    if not folder_uris:
        raise LoadError("compare: no study folder given")
    studies = [load(uri) for uri in folder_uris]
    names = [s.name for s in studies]
    names = [s.uri if names.count(s.name) > 1 else s.name for s in studies]
    tables = []
    for name, study in zip(names, studies, strict=True):
        confirm = study.stage("confirm").dropna(subset=["test_acc", "arm"])
        confirm = confirm.assign(
            # A sibling cell's plain CE is loss ce, arm ce; so is CE kept under another loss's cell.
            loss=confirm["loss"].where(confirm["arm"] != "ce", "ce")
        )
        summary = confirm.groupby(COLUMNS)["test_acc"].agg(["mean", "std", "count"])
        tables.append(summary.set_axis([name, f"{name} sd", f"{name} n"], axis=1))
    together = pd.concat(tables, axis=1)
    if together.empty:
        raise LoadError(f"{', '.join(folder_uris)}: no confirm stage to compare")
    together = together.sort_index().reset_index()
    if not published:
        return together
    known = published_accuracies()
    keys = ["dataset", "noise_kind", "noise_rate", "loss"]
    theirs = known.groupby([*keys, "arm"], as_index=False).agg(
        published=("accuracy", "first"), source=("source", "first")
    )
    arm = together["arm"].where(~together["arm"].str.startswith(ANALYTIC), "biased")
    arm = arm.replace({"tuned": "biased", "zero": "plain", "ce": "plain"})
    rate = together["noise_rate"].round(6)
    merged = together.assign(_arm=arm, noise_rate=rate).merge(
        theirs.rename(columns={"arm": "_arm"}), how="left", on=[*keys, "_arm"]
    )
    return merged.drop(columns="_arm")


def verdicts(folder_uris: Sequence[str]) -> pd.DataFrame:
    """One row a study: pooled regret with its interval, verdict, and where it came from.

    Raises:
        LoadError: a folder that cannot be analysed.
    """
    from analysis.verdict import compute

    rows = []
    for uri in folder_uris:
        found = compute(uri)
        pooled, origin = found.verdict["pooled"], provenance(found.study)
        rows.append(
            {
                "study": found.study.name,
                "folder": uri,
                **{f"regret_{k}": v for k, v in pooled["regret"].items()},
                **{k: pooled[k] for k in ("margin", "cells", "sensitive_cells", "verdict")},
                "networks": sum(origin["networks"].values()),
                "device": ", ".join(origin["device"]),
                "git_commit": ", ".join(c[:12] for c in origin["git_commit"]),
            }
        )
    return pd.DataFrame(rows)


@cache
def published_accuracies() -> pd.DataFrame:
    """Published last-epoch test accuracies: `analysis/exploratory/published.csv`.

    Returns:
        columns dataset, noise_kind, noise_rate, loss, arm (plain | biased), accuracy (fraction),
        model, source.
    """
    with (files("analysis.exploratory") / "published.csv").open() as stream:
        return pd.read_csv(stream, comment="#")
