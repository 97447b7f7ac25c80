"""Panel: arms whose learning curves show a signature of failure, in the confirm stage."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.exploratory.signatures import Signature, SignatureCount, Thresholds
from analysis.inference.cell_records import CellVerdict
from analysis.report.figure_writer import FigureWriter
from analysis.report.panels.base import (
    MAX_ROWS,
    Panel,
    ReportSection,
    ReportTable,
    TableColumn,
    left_out_note,
    register,
)
from analysis.report.series import cell_titles
from analysis.verdict import StudyAnalysis
from study.results.arms import Arm

_COLUMNS = (
    TableColumn("cell"),
    TableColumn("arm"),
    TableColumn("signature"),
    TableColumn("networks that show it", "networks"),
)


def build(analysis: StudyAnalysis, writer: FigureWriter) -> ReportSection | None:
    """One row per cell, arm and signature; None without learning curves."""
    signatures = analysis.verdict.failure_signatures
    if signatures is None:
        return None
    told = set(analysis.tables["signatures"]["signature"])
    untold = ", ".join(s.value for s in Signature if s.value not in told)
    notes = [
        *([f"These curves cannot tell: {untold}."] if untold else []),
        _rules(signatures.thresholds),
        "Exploratory: no verdict depends on it.",
    ]
    examined = f"{signatures.networks} networks of the confirm stage"
    if not signatures.found:
        text = f"None found in the learning curves of {examined}."
        return ReportSection(paragraphs=[text], notes=notes)
    titles = _titles(analysis.verdict.cells)
    rows = [
        [
            titles.get(found.cell_id, found.cell_id),
            Arm.of_row(found.arm).label,
            found.signature,
            f"{found.networks} of {found.n} ({100 * found.networks / found.n:.0f} %)",
        ]
        for found in signatures.found[:MAX_ROWS]
    ]
    return ReportSection(
        intro=f"Signatures of failure in the learning curves of {examined}.",
        table=ReportTable(_COLUMNS, rows),
        paragraphs=[_meanings(signatures.found)],
        notes=[*notes, *left_out_note(len(signatures.found), len(rows), "signatures")],
    )


def _titles(cells: Sequence[CellVerdict]) -> dict[str, str]:
    """Titles of the cells, and of those with the cross-entropy that they are compared with."""
    titles = cell_titles(cells)
    for cell in cells:
        if cell.reference is not None:
            reference = titles[cell.cell_id].replace(f" · {cell.loss} · ", " · ce · ", 1)
            titles.setdefault(cell.reference.cell_id, reference)
    return titles


def _meanings(found: Sequence[SignatureCount]) -> str:
    """One sentence per signature that was found."""
    names = {row.signature for row in found}
    sentences = [f"{s.value.capitalize()}: {s.meaning}." for s in Signature if s.value in names]
    return " ".join(sentences)


def _rules(t: Thresholds) -> str:
    """The thresholds in words."""
    fall = f"falls by more than {100 * t.fall:g} points and {t.scatters:g} times its own scatter"
    chance = (
        f"the last accuracy is less than {100 * t.chance:g} % of the way from guessing to 100 %"
    )
    return (
        f"Memorisation: test accuracy {fall} from its peak, while the share of wrong labels that "
        f"are reproduced minus the share that is corrected rises by more than "
        f"{100 * t.fit_rise:g} points and the accuracy on training labels rises (where "
        f"wrong labels are known, from {t.epochs} epochs). Vanishing gradients: on more than "
        f"{100 * t.vanishing:g} % of the examples in every epoch, and {chance}. Drop at decay: "
        f"the accuracy {fall}, and only once the learning rate is below {100 * t.decayed:g} % of "
        f"its largest value (from {t.decay_epochs} epochs). Flat loss: the training loss changes "
        f"by less than {100 * t.flat:g} % of its size, {chance}, and gradients do not vanish."
    )


PANEL = register(Panel("signatures", "Signs of failure in training", 96, build))
