"""The verdict of a study as one paragraph of text."""

from __future__ import annotations

from analysis.data.load import LoadError
from analysis.formatting import count, listing, points
from analysis.inference.records import CellVerdict, PooledVerdict, StudyVerdict, Verdict

_ANSWERS = {
    Verdict.NON_INFERIOR: "Analytic ε agrees with tuned ε",
    Verdict.INFERIOR: "Analytic ε does not agree with tuned ε",
    Verdict.INCONCLUSIVE: "Undecided whether analytic ε agrees with tuned ε",
    Verdict.INSENSITIVE: "This study cannot tell whether analytic ε agrees with tuned ε",
}
_RELATIONS = {
    Verdict.NON_INFERIOR: "the interval lies below",
    Verdict.INFERIOR: "the interval lies above",
    Verdict.INCONCLUSIVE: "the interval contains",
}


def verdict_paragraph(verdict: StudyVerdict) -> str:
    """The answer in one paragraph: what was compared, n, regret, margin, conclusion.

    Args:
        verdict: from `analysis.verdict.analyse`.

    Raises:
        LoadError: a verdict without cells.
    """
    cells, pooled = verdict.cells, verdict.pooled
    if not cells:
        raise LoadError(f"{verdict.study}: no cell compares analytic with tuned ε")
    answer = _ANSWERS[pooled.verdict]
    if pooled.verdict == Verdict.NON_INFERIOR and pooled.counts[Verdict.INFERIOR]:
        answer += " on average, but not in every cell"
    by_cell = ", ".join(f"{n} {v.word}" for v, n in pooled.counts.items() if n)
    return f"{answer} ({_compared(cells)}): {_evidence(pooled)} By cell: {by_cell}."


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


def _evidence(pooled: PooledVerdict) -> str:
    margin, regret = points(pooled.margin), pooled.regret
    if pooled.verdict == Verdict.INSENSITIVE:
        return f"in every cell even ε = 0 is within {margin} points of tuned ε."
    if regret.mean is None:
        return f"the confirm stage has fewer than two paired seeds; the margin is {margin}."
    if regret.low is None or regret.high is None:
        return (
            f"regret is {points(regret.mean)} points on one seed, without an interval; "
            f"the margin is {margin}."
        )
    return (
        f"on {count(regret.n, 'fresh paired seed')}, test accuracy at tuned "
        f"minus analytic ε is {points(regret.mean)} percentage points "
        f"({100 * pooled.confidence:.0f} % interval {points(regret.low)} to "
        f"{points(regret.high)}), averaged over "
        f"{count(pooled.sensitive_cells, 'cell')} in which ε matters; "
        f"{_RELATIONS[pooled.verdict]} the margin of {margin}."
    )
