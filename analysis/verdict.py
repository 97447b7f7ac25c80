"""From study folders to `analysis/verdict.json` and `analysis/tables/*`.

The verdict itself is made in `analysis.inference.agreement` (one cell) and
`analysis.inference.pooling` (all cells); this module reads, calls them and writes.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from analysis.data.completeness import CellPlan, cell_plans, study_completeness
from analysis.data.evidence import cell_evidence
from analysis.data.load import (
    FACTORS,
    LoadError,
    Study,
    StudyCell,
    cells,
    reference_rows,
    response_metric,
)
from analysis.data.pool import load_pooled
from analysis.data.provenance import provenance
from analysis.exploratory.dynamics import epoch_frame, learning_curves, network_dynamics, summarise
from analysis.exploratory.importance import grid_importance, importance_table
from analysis.exploratory.logit_spread import logit_spread
from analysis.exploratory.signatures import failure_signatures, signature_table
from analysis.exploratory.transitions import Transition, transition_matrices
from analysis.inference.agreement import JudgedCell, judge_cell
from analysis.inference.cell_records import CellVerdict, IndifferenceRegion, ResponseSummary
from analysis.inference.pooling import margin_curve, noise_slopes, pool, value_agreement
from analysis.inference.study_records import StudyVerdict
from analysis.response.fit import Response, fit_response
from analysis.response.surface import CellSurface
from analysis.tables import (
    arm_table,
    cell_table,
    choice_table,
    concatenate,
    cost_table,
    latex,
    noise_slope_table,
    procedure_table,
    value_agreement_table,
    variance_table,
)
from study.results.arms import BEST, CE
from study.results.folder import StudyFolder
from study.results.schema import Stage

_CELL_COLUMNS = ["stage", "cell_id", "network_id", "arm", "epsilon", "lr", "rescale", "seed"]
_CELL_COLUMNS += ["replicate", "status", "loss_params", "val_acc_noisy", "val_acc_clean"]
_CELL_COLUMNS += ["test_acc"]
_SWEPT = ["epsilon", "lr", "loss", "loss_params"]
_MAX_LATEX_ROWS = 400  # longer tables are for programs
_CELLS_PER_PROCESS, _MAX_PROCESSES = 12, 32
_CURVE_STEP = 4  # every fourth point of a curve's grid is written

Folders = str | Sequence[str]


@dataclass(frozen=True)
class StudyAnalysis:
    """All that the report shows.

    Attributes:
        study: as read.
        verdict: the content of `verdict.json`.
        responses: {cell_id: fitted response to ε}, of the cells that have a curve.
        tables: {name: tidy table}, the content of `analysis/tables/`.
        transitions: transition matrices of the label noise.
        judged: the cells with the contrasts that their verdicts come from.
    """

    study: Study
    verdict: StudyVerdict
    responses: dict[str, Response]
    tables: dict[str, pd.DataFrame]
    transitions: list[Transition] = field(default_factory=list)
    judged: list[JudgedCell] = field(default_factory=list)

    def folder(self, into: str | None = None) -> StudyFolder:
        """The folder to write below.

        Args:
            into: a folder; None for the study's own, or the one beside a bundle.

        Raises:
            LoadError: several studies, and no `into`.
        """
        if into is not None:
            return StudyFolder.at(into)
        if len(self.study.uris) > 1:
            raise LoadError("several studies: say with --into which folder the result goes to")
        return StudyFolder.at(self.study.uris[0]).for_results


@dataclass(frozen=True)
class CellAnalysis:
    """The analysis of one cell.

    Attributes:
        judged: its verdict, with the response to ε, and what a verdict over cells needs.
        response: fitted response to ε; None without a curve.
    """

    judged: JudgedCell
    response: Response | None


def analyse(folders: Folders, into: str | None = None, margin: float | None = None) -> StudyVerdict:
    """Analyse studies; write `analysis/verdict.json` and `analysis/tables/*`.

    Args:
        folders: a study folder, a local path or a pyarrow filesystem URI; or several to pool.
        into: folder to write below; by default the study's own.
        margin: δ; by default that of the study files.

    Returns:
        the verdict as written.

    Raises:
        LoadError: the folders cannot be analysed; the message is one line.
    """
    analysis = compute(folders, margin)
    write(analysis, into)
    return analysis.verdict


def write(analysis: StudyAnalysis, into: str | None = None) -> None:
    """Write the verdict as JSON, and the tables as CSV and, up to 400 rows, as LaTeX.

    Args:
        analysis: from `compute`.
        into: folder to write below; by default the study's own.

    Raises:
        LoadError: several studies, and no `into`.
    """
    folder = analysis.folder(into)
    folder.write_bytes("analysis/verdict.json", verdict_bytes(analysis))
    for name, table in analysis.tables.items():
        buffer = io.StringIO()
        table.to_csv(buffer, index=False, float_format="%.6g", lineterminator="\n")
        folder.write_bytes(f"analysis/tables/{name}.csv", buffer.getvalue().encode())
        if len(table) <= _MAX_LATEX_ROWS:
            folder.write_bytes(f"analysis/tables/{name}.tex", latex(table).encode())


def verdict_bytes(analysis: StudyAnalysis) -> bytes:
    """The content of `verdict.json`."""
    content = analysis.verdict.to_json()
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def compute(folders: Folders, margin: float | None = None) -> StudyAnalysis:
    """Analyse studies without writing anything.

    Args:
        folders: a study folder, a local path or a pyarrow filesystem URI; or several to pool.
        margin: δ; by default that of the study files.

    Raises:
        LoadError: the folders cannot be analysed; the message is one line.
    """
    study = load_pooled([folders] if isinstance(folders, str) else folders, margin)
    analyses = _analyse_cells(study)
    judged = [cell.judged.verdict for cell in analyses]
    responses = {
        cell.judged.verdict.cell_id: cell.response for cell in analyses if cell.response is not None
    }
    pairs = concatenate(
        [cell.judged.pairs.assign(cell_id=cell.judged.verdict.cell_id) for cell in analyses],
        ["cell_id", "arm", "seed", "regret"],
    )
    completeness = study_completeness(study, [cell.completeness for cell in judged])
    signatures = signature_table(study)
    verdict = StudyVerdict(
        schema_version=3,
        study=study.name,
        cells=judged,
        pooled=pool([cell.judged for cell in analyses], completeness, study.margin),
        value_agreement=value_agreement(judged),
        noise_slopes=noise_slopes(judged, {k: r.peaks for k, r in responses.items()}),
        notes=[*study.notes, *_notes(judged)],
        provenance=provenance(study),
        failure_signatures=failure_signatures(signatures),
    )
    tables = {**_tables(study, verdict, pairs, responses), "signatures": signatures}
    return StudyAnalysis(
        study=study,
        verdict=verdict,
        responses=responses,
        tables=tables,
        transitions=transition_matrices(study),
        judged=[cell.judged for cell in analyses],
    )


def _notes(judged: Sequence[CellVerdict]) -> list[str]:
    """What the intervals leave out."""
    notes = []
    measured = [c for cell in judged for c in cell.value.values() if c.shares is not None]
    if any(c.shares and c.shares.test_examples is None for c in measured):
        notes.append(
            "The rows do not say what each network got right (column test_correct), so the choice "
            "of test examples is not in the intervals."
        )
    if any(c.shares and c.shares.surface is None for c in measured):
        notes.append(
            "Too few networks of search and sweep for a surface over ε and learning rate in some "
            "cells: how far the confirmed points may fall short of the best ones is not in their "
            "intervals."
        )
    return notes


def _analyse_cells(study: Study) -> list[CellAnalysis]:
    """Judge every cell and fit its response."""
    columns = [*_CELL_COLUMNS, *[c for c in FACTORS if c not in _CELL_COLUMNS]]
    trials = study.trials[columns].astype({c: object for c in ("stage", "cell_id", "arm")})
    by_cell = dict(list(trials.groupby("cell_id")))
    confirm = trials[trials["stage"] == Stage.CONFIRM]
    cross_entropy = confirm[confirm["arm"] == CE]
    plans, correct = cell_plans(study), study.test_correct(confirm)

    tasks = []
    for cell in cells(study.trials):
        rows, reference = by_cell[cell.cell_id], reference_rows(cross_entropy, cell)
        labels = rows.index.union(reference.index)
        bits = {label: correct[label] for label in labels if label in correct}
        tasks.append((cell, rows, reference, plans.get(cell.cell_id), bits))
    # A process costs a second to start, the time of three cells.
    workers = min(os.cpu_count() or 1, len(tasks) // _CELLS_PER_PROCESS, _MAX_PROCESSES) or 1
    analyse = delayed(_analyse_cell)
    return list(Parallel(workers)(analyse(*task, study.config, study.margin) for task in tasks))


def _analyse_cell(
    cell: StudyCell,
    rows: pd.DataFrame,
    reference: pd.DataFrame,
    plan: CellPlan | None,
    correct: Mapping[Any, bytes],
    config: Mapping[str, Any],
    margin: float,
) -> CellAnalysis:
    """Judge one cell and fit its response; arguments as of `judge_cell`."""
    # The matrices are small: threads of linear algebra would only wait for each other.
    with threadpool_limits(1):
        surface = _surface(rows, config, margin)
        judged = judge_cell(cell, rows, reference, margin, plan, correct, surface)
        sweep = rows[rows["stage"] == Stage.SWEEP]
        response = fit_response(sweep, margin, judged.verdict.epsilon_analytic)
        verdict = _with_response(judged.verdict, response, sweep)
    return CellAnalysis(replace(judged, verdict=verdict), response)


def _surface(rows: pd.DataFrame, config: Mapping[str, Any], margin: float) -> CellSurface | None:
    """The surface of a cell; None without the arm `best`, or with too few networks."""
    if not ((rows["stage"] == Stage.CONFIRM) & (rows["arm"] == BEST)).any():
        return None
    evidence = cell_evidence(rows, config)
    return None if evidence is None else CellSurface(evidence, margin)


def _with_response(
    verdict: CellVerdict, response: Response | None, sweep: pd.DataFrame
) -> CellVerdict:
    """A cell's verdict with what the fitted response says."""
    if response is None:
        return verdict
    low, high = response.indifference
    return replace(
        verdict,
        epsilon_best=response.best,
        indifference=IndifferenceRegion(low, high),
        response=ResponseSummary(
            metric=response.metric,
            noise_sd=response.noise,
            seeds=response.seeds,
            analytic_inside={rule: low <= e <= high for rule, e in response.probes.items()},
            probability_within_margin={
                rule: float((shortfall <= verdict.margin).mean())
                for rule, shortfall in response.shortfall.items()
            },
            importance=grid_importance(sweep, response.metric, _SWEPT),
        ),
    )


def _tables(
    study: Study, verdict: StudyVerdict, pairs: pd.DataFrame, responses: dict[str, Response]
) -> dict[str, pd.DataFrame]:
    judged = verdict.cells
    epochs = epoch_frame(study)
    sweep = study.stage(Stage.SWEEP)
    points = [r.points.assign(cell_id=cell_id) for cell_id, r in responses.items()]
    curves = [
        r.curve.iloc[::_CURVE_STEP].assign(cell_id=cell_id) for cell_id, r in responses.items()
    ]
    return {
        "cells": cell_table(judged),
        "costs": cost_table(judged),
        "regret_by_seed": pairs,
        "procedure": procedure_table(judged),
        "choices": choice_table(judged),
        "variance": variance_table(judged),
        "margin_curve": margin_curve(judged, verdict.pooled),
        "value_agreement": value_agreement_table(verdict.value_agreement),
        "noise_slopes": noise_slope_table(verdict.noise_slopes),
        "arms": arm_table(judged),
        "logit_spread": logit_spread(study, judged),
        "importance": importance_table(sweep, response_metric(sweep)),
        "dynamics": summarise(network_dynamics(study, epochs)),
        "learning_curves": learning_curves(study, epochs),
        "response_points": concatenate(points, ["cell_id", "epsilon", "mean", "n", "lr"]),
        "response_curve": concatenate(curves, ["cell_id", "epsilon", "middle", "low", "high"]),
    }
