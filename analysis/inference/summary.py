"""The verdict of a study as one paragraph of text."""

from __future__ import annotations

from analysis.data.load import LoadError
from analysis.formatting import count, listing, points
from analysis.inference.cell_records import CellVerdict
from analysis.inference.records import Interval, Verdict
from analysis.inference.study_records import PooledVerdict, StudyVerdict

_ANSWERS = {
    Verdict.EQUIVALENT: "Analytic ε agrees with the best ε",
    Verdict.NON_INFERIOR: "Analytic ε agrees with the best ε",
    Verdict.INFERIOR: "Analytic ε does not agree with the best ε",
    Verdict.UNDECIDED: "Undecided whether analytic ε agrees with the best ε",
    Verdict.CANNOT_TELL: "This study cannot tell whether analytic ε agrees with the best ε",
}
_TESTS = {
    Verdict.EQUIVALENT: "equivalent: the interval lies within ± the margin of",
    Verdict.NON_INFERIOR: "non-inferior: the interval lies below the margin of",
    Verdict.INFERIOR: "inferior: the interval lies above the margin of",
    Verdict.UNDECIDED: "the margin is",
    Verdict.CANNOT_TELL: "the margin is",
}


def verdict_paragraph(verdict: StudyVerdict) -> str:
    """The answer in one paragraph: value, scope, share recovered, procedure, what is missing.

    Args:
        verdict: from `analysis.verdict.analyse`.

    Raises:
        LoadError: a verdict without cells.
    """
    cells, pooled = verdict.cells, verdict.pooled
    if not cells:
        raise LoadError(f"{verdict.study}: no cell compares analytic ε with another ε")
    sentences = [
        _answer(verdict),
        _scope(verdict),
        _recovered(pooled),
        _procedure(pooled),
        _missing(pooled),
        _failures(cells),
        "By cell: " + ", ".join(f"{n} {v.word}" for v, n in pooled.counts.items() if n) + ".",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _answer(verdict: StudyVerdict) -> str:
    """The answer with the value; without an answer, why, and the value so far."""
    cells, pooled = verdict.cells, verdict.pooled
    if pooled.refused:
        missing = f"the study is not finished; {pooled.completeness.sentence}"
        so_far = _value(pooled)
        return f"No verdict ({_compared(cells)}): {missing}. {so_far[0].upper()}{so_far[1:]}"
    answer = _ANSWERS[pooled.verdict]
    if not pooled.completeness.is_complete:
        answer += " (incomplete)"
    if pooled.verdict.agrees and pooled.counts[Verdict.INFERIOR]:
        answer += " on average, but not in every cell"
    return f"{answer} ({_compared(cells)}): {_value(pooled)}"


def _compared(cells: list[CellVerdict]) -> str:
    losses, datasets, rules = (
        listing(list(dict.fromkeys(names)))
        for names in (
            [cell.loss for cell in cells],
            [cell.dataset for cell in cells],
            [cell.rule for cell in cells if cell.rule is not None],
        )
    )
    return f"{losses} on {datasets}: {count(len(cells), 'cell')}, rule {rules or 'none'}"


def _interval(value: Interval, confidence: float) -> str:
    """`0.12 (90 % interval −0.05 to 0.28)`."""
    assert value.mean is not None
    if value.low is None or value.high is None:
        return points(value.mean)
    level = f"{100 * confidence:.0f} % interval"
    return f"{points(value.mean)} ({level} {points(value.low)} to {points(value.high)})"


def _value(pooled: PooledVerdict) -> str:
    """The cost with its interval, what it shows, and the margin; of a refused verdict, so far."""
    margin, value = points(pooled.margin), pooled.value
    so_far = "so far, " if pooled.refused else ""
    if value.mean is None:
        reason = "" if pooled.refused else f"{pooled.reason}; "
        return f"{reason}the margin is {margin} percentage points."
    if value.low is None:
        return (
            f"{so_far}the cost is {points(value.mean)} percentage points on fewer than two paired "
            f"seeds, without an interval; the margin is {margin}."
        )
    text = (
        f"{so_far}on {count(value.n, 'fresh paired seed')}, test accuracy at the best ε minus "
        "analytic ε, each at its best learning rate, is "
        f"{_interval(value, pooled.confidence).replace(' (', ' percentage points (', 1)}"
    )
    if pooled.refused:
        return f"{text}; the margin is {margin}."
    if pooled.verdict in (Verdict.UNDECIDED, Verdict.CANNOT_TELL):
        return f"{text}; {pooled.reason}; the margin is {margin}."
    return f"{text}; {_TESTS[pooled.verdict]} {margin}."


def _scope(verdict: StudyVerdict) -> str:
    """Which cells the value is about, and which cells are not in it."""
    pooled = verdict.pooled
    if pooled.value.mean is None:
        return ""
    evidence = (
        f"ε = 0 is shown to cost more than the margin in {pooled.evidence_cells} of "
        f"{count(pooled.cells, 'cell')}"
    )
    left_out = pooled.value.left_out
    text = f"Scope: {pooled.scope.sentence}; {evidence}"
    if left_out:
        text += f"; left out of the mean for too few seeds: {listing(left_out)}"
    same = [
        cell.cell_id
        for cell in verdict.cells
        if (value := cell.primary_value) is not None and value.same_epsilon
    ]
    leading = sum(
        cell.primary_value is not None and cell.primary_value.leads for cell in verdict.cells
    )
    if leading:
        text += f"; search and sweep rank analytic ε first in {leading}"
    edge = sum(
        cell.epsilon_best is not None and cell.epsilon_best.on_edge for cell in verdict.cells
    )
    if edge:
        text += f"; the best ε lies on the edge of the searched range in {edge}, so the cost there "
        text += "is a lower bound"
    if same:
        text += f"; not measured, because best and analytic ε are the same: {listing(same)}"
    return f"{text}."


def _recovered(pooled: PooledVerdict) -> str:
    share = pooled.recovered
    if share is None or share.value is None or share.gain is None:
        return ""
    text = f"Of the gain from ε = 0 to the best ε ({points(share.gain)} points) analytic ε recovers"
    text += f" {100 * share.value:.0f} %"
    if share.low is None or share.high is None:
        return f"{text} (no interval: {share.reason})."
    return f"{text} ({100 * share.low:.0f} to {100 * share.high:.0f} %)."


def _procedure(pooled: PooledVerdict) -> str:
    result = pooled.procedure
    if result is None or result.mean is None:
        return ""
    if result.low is None:
        seeds = _interval(result.over_seeds, pooled.confidence).replace("interval", "over seeds")
        return f"Tuning ε as well gains {seeds} points; {result.reason}."
    return (
        f"Tuning ε as well gains {_interval(result, pooled.confidence)} points over "
        f"{result.n} searches."
    )


def _missing(pooled: PooledVerdict) -> str:
    missing, diverged = pooled.completeness.sentence, pooled.completeness.diverged
    # A refused verdict begins with what is missing.
    parts = [f"Incomplete: {missing}."] if missing and not pooled.refused else []
    if diverged:
        parts.append(
            f"{count(diverged, 'confirm network')} diverged, with the accuracy of guessing."
        )
    return " ".join(parts)


def _failures(cells: list[CellVerdict]) -> str:
    """What the number of seeds cannot exclude."""
    arms = [arm for cell in cells for arm in cell.arms.values() if arm.failure_bound is not None]
    failed = sum(arm.failed for arm in arms)
    seeds = [arm.seeds for arm in arms if arm.failed == 0]
    text = f"Failures: {failed} of {sum(arm.seeds for arm in arms)} networks." if failed else ""
    if seeds:
        bound = 1 - 0.05 ** (1 / min(seeds))
        text += (
            f" With {count(min(seeds), 'seed')}, failures in up to {100 * bound:.0f} % of runs "
            "cannot be excluded."
        )
    return text.strip()
