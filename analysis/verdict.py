"""From study folders to `analysis/verdict.json` and `analysis/tables/*`."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from analysis.data.load import FACTORS, LoadError, Study, cells, provenance, reference_rows
from analysis.data.load import response_metric as metric_of
from analysis.data.pool import load_pooled
from analysis.exploratory.dynamics import epoch_frame, learning_curves, network_dynamics, summarise
from analysis.exploratory.importance import grid_importance, importance_table
from analysis.exploratory.logit_spread import logit_spread
from analysis.exploratory.transitions import Transition, transition_matrices
from analysis.inference.agreement import judge_cell
from analysis.inference.pooling import margin_curve, noise_slopes, pool, value_agreement
from analysis.response.fit import Response, fit_response
from study.results.folder import StudyFolder

_CELL_COLUMNS = ["stage", "cell_id", "arm", "epsilon", "lr", "seed", "status", "loss_params"]
_CELL_COLUMNS += ["val_acc_noisy", "val_acc_clean", "test_acc"]
_SWEPT = ["epsilon", "lr", "loss", "loss_params"]
_LONGEST_LATEX = 400  # rows; longer tables are for programs

Folders = str | Sequence[str]


@dataclass(frozen=True)
class StudyAnalysis:
    """All that the report shows: the study, its verdict, the fitted responses, tidy tables."""

    study: Study
    verdict: dict[str, Any]
    responses: dict[str, Response]
    tables: dict[str, pd.DataFrame]
    transitions: list[Transition] = field(default_factory=list)

    def folder(self, into: str | None = None) -> StudyFolder:
        """Where its files go: the study's own folder, or `into`.

        Raises:
            LoadError: several studies, and no `into`.
        """
        if into is not None:
            return StudyFolder.at(into)
        if len(self.study.uris) > 1:
            raise LoadError("several studies: say with --into which folder the result goes to")
        return StudyFolder.at(self.study.uris[0])


def analyse(
    folders: Folders, into: str | None = None, margin: float | None = None
) -> dict[str, Any]:
    """Analyse studies; write `analysis/verdict.json` and `analysis/tables/*`.

    Args:
        folders: a study folder, local or a pyarrow filesystem URI, or several to pool.
        into: folder to write below; by default the study's own.
        margin: δ; by default the studies' own.

    Returns:
        the verdict as written.

    Raises:
        LoadError: the folders cannot be analysed; one line says why.
    """
    found = compute(folders, margin)
    write(found, into)
    return found.verdict


def write(found: StudyAnalysis, into: str | None = None) -> None:
    """Write an analysis' verdict and tables: CSV, and LaTeX where a paper could hold it."""
    folder = found.folder(into)
    text = json.dumps(found.verdict, indent=2, ensure_ascii=False, allow_nan=False)
    folder.write_bytes("analysis/verdict.json", (text + "\n").encode())
    for name, table in found.tables.items():
        buffer = io.StringIO()
        table.to_csv(buffer, index=False, float_format="%.6g", lineterminator="\n")
        folder.write_bytes(f"analysis/tables/{name}.csv", buffer.getvalue().encode())
        if len(table) <= _LONGEST_LATEX:
            folder.write_bytes(f"analysis/tables/{name}.tex", latex(table).encode())


def latex(table: pd.DataFrame) -> str:
    """A table as a LaTeX tabular with booktabs rules, numbers to three digits."""
    shown = table.drop(columns=[c for c in ("reason",) if c in table])
    return str(shown.to_latex(index=False, escape=True, float_format="%.3g", na_rep="--"))


def compute(folders: Folders, margin: float | None = None) -> StudyAnalysis:
    """As `analyse`, but writes nothing.

    Raises:
        LoadError: as `analyse`.
    """
    study = load_pooled([folders] if isinstance(folders, str) else folders, margin)
    margin, trials = study.margin, study.trials
    columns = [*_CELL_COLUMNS, *[c for c in FACTORS if c not in _CELL_COLUMNS]]
    narrow = trials[columns].astype({c: object for c in ("stage", "cell_id", "arm")})
    by_cell = dict(list(narrow.groupby("cell_id")))
    plain = narrow[(narrow["arm"] == "ce") & (narrow["stage"] == "confirm")]
    work = []
    for _, cell in cells(trials).iterrows():
        own = by_cell[cell["cell_id"]]
        row, paired_regrets = judge_cell(cell, own, reference_rows(plain, cell), margin)
        work.append((row, paired_regrets, own[own["stage"] == "sweep"]))
    # NumPy's batched linear algebra lets go of Python's lock, so threads use all cores.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        fits = list(
            threads.map(lambda w: fit_response(w[2], margin, w[0]["epsilon_analytic"]), work)
        )
    judged, pairs, points, curves = [], [], [], []
    responses: dict[str, Response] = {}
    for (row, paired_regrets, sweep), response in zip(work, fits, strict=True):
        key = {"cell_id": row["cell_id"]}
        judged.append({**row, **_response_block(response, sweep, margin)})
        pairs.append(paired_regrets.assign(**key))
        if response is not None:
            responses[row["cell_id"]] = response
            points.append(response.points.assign(**key))
            curves.append(response.curve.iloc[::4].assign(**key))
    paired = _concat(pairs, ["cell_id", "arm", "seed", "regret"])
    verdict: dict[str, Any] = {
        "schema_version": 1,
        "study": study.name,
        "cells": judged,
        "pooled": pool(judged, paired, margin),
        "value_agreement": value_agreement(judged),
        "noise_slopes": noise_slopes(judged, {k: r.peaks for k, r in responses.items()}),
        "notes": list(study.notes),
        "provenance": provenance(study),
    }
    epochs = epoch_frame(study)
    swept = study.stage("sweep")
    tables = {
        "cells": cell_table(judged),
        "regret": regret_table(judged),
        "regret_by_seed": paired,
        "margin_curve": margin_curve(judged, paired),
        "value_agreement": pd.DataFrame(
            [{"rule": r, **a} for r, a in verdict["value_agreement"].items()]
        ),
        "noise_slopes": pd.DataFrame(verdict["noise_slopes"]).drop(
            columns="rates", errors="ignore"
        ),
        "arms": arm_table(judged),
        "logit_spread": logit_spread(study, judged),
        "importance": importance_table(swept, metric_of(swept)),
        "dynamics": summarise(network_dynamics(study, epochs)),
        "learning_curves": learning_curves(study, epochs),
        "response_points": _concat(points, ["cell_id", "epsilon", "mean", "n", "lr"]),
        "response_curve": _concat(curves, ["cell_id", "epsilon", "middle", "low", "high"]),
    }
    return StudyAnalysis(study, verdict, responses, tables, transition_matrices(study))


def cell_table(judged: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a cell: its factors, ε by every way, the primary regret, the verdict."""
    rows = []
    for c in judged:
        regret = c["regret"].get(c["rule"]) or {}
        best, near = c["epsilon_best"] or {}, c["indifference"] or {}
        rows.append(
            {
                **{k: c[k] for k in ("cell_id", "dataset", "classes", "noise_kind", "noise_rate")},
                **{k: c[k] for k in ("model", "loss", "rule")},
                "epsilon_analytic": c["epsilon_analytic"].get(c["rule"]),
                "epsilon_tuned": c["epsilon_tuned"],
                "epsilon_best": best.get("value"),
                "epsilon_best_low": best.get("low"),
                "epsilon_best_high": best.get("high"),
                "on_edge": best.get("on_edge"),
                "flat": best.get("flat"),
                "indifference_low": near.get("low"),
                "indifference_high": near.get("high"),
                **{f"regret_{k}": regret.get(k) for k in ("mean", "low", "high", "n")},
                "margin": c["margin"],
                "verdict": c["verdict"],
                "reason": c["reason"],
            }
        )
    return pd.DataFrame(rows)


def regret_table(judged: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a cell and arm: regret against tuned ε with its interval."""
    rows = []
    for c in judged:
        arms = {f"analytic:{rule}": r for rule, r in c["regret"].items()} | c["controls"]
        rows += [{"cell_id": c["cell_id"], "arm": arm, **r} for arm, r in arms.items()]
    return pd.DataFrame(rows, columns=["cell_id", "arm", "mean", "low", "high", "n"])


def arm_table(judged: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a cell and arm of the confirm stage: test accuracy, and regret against tuned ε."""
    columns = ["cell_id", "arm", "accuracy", "accuracy_low", "accuracy_high", "n"]
    columns += ["regret", "regret_low", "regret_high"]
    rows = []
    for c in judged:
        regrets = {f"analytic:{rule}": r for rule, r in c["regret"].items()} | c["controls"]
        for arm, a in c["accuracy"].items():
            r = regrets.get(arm, {})
            ends = [a["mean"], a["low"], a["high"], a["n"]]
            ends += [r.get("mean"), r.get("low"), r.get("high")]
            rows.append(dict(zip(columns, [c["cell_id"], arm, *ends], strict=True)))
    return pd.DataFrame(rows, columns=columns)


def _response_block(
    response: Response | None, sweep: pd.DataFrame, margin: float
) -> dict[str, Any]:
    if response is None:
        return {"epsilon_best": None, "indifference": None, "response": None}
    low, high = response.indifference
    return {
        "epsilon_best": asdict(response.best),
        "indifference": {"low": low, "high": high},
        "response": {
            "metric": response.metric,
            "noise_sd": response.noise,
            "seeds": response.seeds,
            # Where the sweep itself places the analytic value: a second witness beside regret.
            "analytic_inside": {r: low <= e <= high for r, e in response.probes.items()},
            "probability_within_margin": {
                r: float((s <= margin).mean()) for r, s in response.shortfall.items()
            },
            "importance": grid_importance(sweep, response.metric, _SWEPT),
        },
    }


def _concat(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    kept = [f for f in frames if len(f)]
    return pd.concat(kept)[columns] if kept else pd.DataFrame(columns=columns)
