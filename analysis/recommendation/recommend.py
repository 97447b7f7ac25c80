"""From a study folder to recommendations: choose on validation rows, measure on confirm rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.data.completeness import cell_completeness, cell_plans, study_completeness
from analysis.data.load import LoadError, Study, load
from analysis.inference.intervals import CONFIDENCE, mean_interval
from analysis.recommendation.candidates import Candidate, candidates_of
from analysis.recommendation.comparisons import (
    example_count,
    finding_of,
    gain_of,
    holm,
    sample_size,
)
from analysis.recommendation.labels import labels_of
from analysis.recommendation.records import (
    Finding,
    Gain,
    LossRow,
    Recommendation,
    StudyRecommendation,
)
from analysis.recommendation.snippet import snippet
from study.results.arms import CE, ZERO
from study.results.folder import StudyFolder
from study.results.schema import Stage

_VALUE_COLUMN = "val_acc_noisy"


def recommend(
    uri: str, margin: float | None = None, noise_rate: float | None = None
) -> StudyRecommendation:
    """Recommend a loss, ε and learning rate for each data set, label noise and model of a study.

    The candidate is chosen among all losses and arms by validation accuracy of search and sweep.
    Its gain over cross-entropy is measured on the confirm stage: fresh seeds and test examples that
    had no influence on the choice. It therefore needs no correction for the choice. The gains of
    the other losses are corrected for their number (Holm).

    Args:
        uri: the study folder; the study may be unfinished.
        margin: a difference below it counts as none; by default that of the study file.
        noise_rate: assumed share of wrong labels where the study does not know it.

    Raises:
        LoadError: the folder cannot be analysed, or holds no setting to recommend.
    """
    study = load(str(StudyFolder.at(uri).uri))
    margin = study.margin if margin is None else margin
    confirm = study.stage(Stage.CONFIRM)
    correct = study.test_correct(confirm)
    plan = study.plans[0]
    value_column = _VALUE_COLUMN if plan is None else plan.value_column
    groups: dict[str, list[Candidate]] = {}
    for cell_id, rows in study.trials.groupby("cell_id", sort=False):
        prefix = str(cell_id).rpartition("/")[0]
        found = candidates_of(str(cell_id), rows, study.config, value_column)
        groups.setdefault(prefix, []).extend(found)
    recommendations = [
        _recommendation(study, prefix, candidates, correct, margin, noise_rate)
        for prefix, candidates in groups.items()
        if candidates
    ]
    if not recommendations:
        raise LoadError(f"{uri}: no network of search or confirm with an arm, so nothing to choose")
    plans = cell_plans(study)
    completeness = study_completeness(
        study,
        [
            cell_completeness(rows, plans.get(str(cell_id)), None)
            for cell_id, rows in confirm.groupby("cell_id")
        ],
    )
    losses = max(sum(row.setting.loss != CE for row in r.losses) for r in recommendations)
    return StudyRecommendation(
        schema_version=1,
        study=study.name,
        folder=uri,
        complete=completeness.is_complete,
        missing=completeness.sentence,
        confidence=CONFIDENCE,
        margin=margin,
        multiplicity=_multiplicity(losses, value_column),
        recommendations=recommendations,
    )


def _multiplicity(losses: int, value_column: str) -> str:
    labels = "correct" if value_column == "val_acc_clean" else "noisy"
    return (
        f"The candidate is the best of {losses} losses beside cross-entropy, each at several ε, by "
        f"accuracy on {labels} validation labels of search and sweep. Its gain is measured once, "
        "on test examples and seeds that the choice did not see: the choice needs no correction. "
        "The p values of all losses are corrected for their number (Holm)."
    )


def _recommendation(
    study: Study,
    prefix: str,
    candidates: Sequence[Candidate],
    correct: Mapping[Any, bytes],
    margin: float,
    noise_rate: float | None,
) -> Recommendation:
    """The recommendation of one data set, noise and model."""
    ranked = sorted(candidates, key=lambda candidate: -candidate.rank)
    baseline = next((c for c in ranked if c.is_ce), None)
    others = [c for c in ranked if not c.is_ce]
    candidate = others[0] if others else ranked[0]
    firsts: dict[tuple[str, str], Candidate] = {}
    for c in others:
        firsts.setdefault((c.setting.loss, c.setting.cell_id), c)
    gains = [_gain(c, baseline, correct) for c in firsts.values()]
    losses = [
        LossRow(c.setting, c.validation, mean_interval(_accuracies(c)), gain, p)
        for c, gain, p in zip(firsts.values(), gains, holm(gains), strict=True)
    ]
    over_ce = gains[0] if gains else None
    finding = finding_of(over_ce, margin)
    if baseline is None or finding == Finding.BETTER:
        recommended = candidate.setting
    else:
        recommended = baseline.setting
    if baseline is not None:
        own = mean_interval(_accuracies(baseline))
        losses.append(LossRow(baseline.setting, baseline.validation, own, None, None))
    cell_rows = study.trials[study.trials["cell_id"] == candidate.setting.cell_id]
    classes = int(cell_rows["classes"].iloc[0])
    wanted = None
    if over_ce is not None and finding not in (Finding.BETTER, Finding.WORSE):
        wanted = sample_size(
            over_ce,
            margin,
            _networks_per_seed(study, candidates),
            _seconds_per_network(study),
            example_count(candidate.rows, correct),
        )
    dataset, noise, model = _names(prefix)
    return Recommendation(
        dataset=dataset,
        noise=noise,
        model=model,
        classes=classes,
        finding=finding,
        recommended=recommended,
        candidate=candidate.setting,
        over_ce=over_ce,
        over_zero=_over_zero(candidate, candidates, correct),
        losses=losses,
        considered=len(ranked),
        labels=labels_of(study, candidate, over_ce, classes, noise, noise_rate),
        sample_size=wanted,
        snippet=snippet(recommended, classes, study.config),
    )


def _names(prefix: str) -> tuple[str, str, str]:
    """Data set, noise and model of a cell id without its loss."""
    parts = prefix.split("/")
    if len(parts) < 3:  # ids of another program
        return prefix, "", ""
    return "/".join(parts[:-2]), parts[-2], parts[-1]


def _accuracies(candidate: Candidate) -> pd.Series[float]:
    return candidate.rows["test_acc"] if len(candidate.rows) else pd.Series(dtype=float)


def _gain(
    candidate: Candidate, other: Candidate | None, correct: Mapping[Any, bytes]
) -> Gain | None:
    if other is None or candidate.rows.empty or other.rows.empty:
        return None
    return gain_of(candidate.rows, other.rows, correct)


def _over_zero(
    candidate: Candidate, candidates: Sequence[Candidate], correct: Mapping[Any, bytes]
) -> Gain | None:
    """The gain over the same loss at ε = 0."""
    if candidate.setting.epsilon == 0:
        return None
    at_zero = [
        c
        for c in candidates
        if c.setting.cell_id == candidate.setting.cell_id and c.setting.arm == ZERO
    ]
    return _gain(candidate, at_zero[0], correct) if at_zero else None


def _networks_per_seed(study: Study, candidates: Sequence[Candidate]) -> int:
    """Networks that one more confirm seed trains in the whole study."""
    plan = study.plans[0]
    if plan is None or plan.confirm_seeds is None:
        return len(candidates)
    return sum(len(cell.arms) for cell in plan.cells)


def _seconds_per_network(study: Study) -> float | None:
    """Mean training time of a network in one worker, with the others of its cohort beside it."""
    seconds = study.trials["wall_s"] / study.trials["networks_in_cohort"]
    return float(seconds.mean()) if seconds.notna().any() else None
