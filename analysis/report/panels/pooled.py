"""Panel: the mean over data sets, and the cells that can be claimed at the same time."""

from __future__ import annotations

from analysis.formatting import points
from analysis.inference.study_records import PooledVerdict
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import Panel, ReportSection, register
from analysis.verdict import StudyAnalysis

_MAX_NAMED_CELLS = 8
_FEW_DATASETS = 5


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """Conclusions over data sets and cells; None without any."""
    pooled = analysis.verdict.pooled
    paragraphs = [*_between_datasets(pooled), *_holm(pooled)]
    return ReportSection(paragraphs=paragraphs) if paragraphs else None


def _between_datasets(pooled: PooledVerdict) -> list[str]:
    effects = pooled.scope.further_datasets
    if effects is None:
        return []
    text = (
        f"Across data sets (random effects, Hartung–Knapp–Sidik–Jonkman, {effects.datasets} data "
        f"sets): {points(effects.mean)} points ({100 * pooled.confidence:.0f} % interval "
        f"{points(effects.low)} to {points(effects.high)}; spread between data sets "
        f"{points(effects.tau)}"
    )
    if effects.prediction_low is not None and effects.prediction_high is not None:
        text += (
            f"; prediction for another data set {points(effects.prediction_low)} to "
            f"{points(effects.prediction_high)}"
        )
    text += ")."
    if effects.datasets <= _FEW_DATASETS:
        text += " With five data sets or fewer, trust the forest plot more than this number."
    return [text]


def _holm(pooled: PooledVerdict) -> list[str]:
    cells = pooled.non_inferior_cells_holm
    if not cells:
        return []
    names = f": {', '.join(cells)}" if len(cells) <= _MAX_NAMED_CELLS else ""
    claim = "Cells that can be claimed non-inferior at the same time, by Holm's correction"
    return [f"{claim}: {len(cells)} of {pooled.cells}{names}."]


PANEL = register(Panel("pooled", "Over data sets and cells", 40, build))
