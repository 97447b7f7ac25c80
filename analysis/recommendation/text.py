"""A recommendation as text for the terminal."""

from __future__ import annotations

from analysis.formatting import count, number, points
from analysis.inference.records import Interval
from analysis.recommendation.records import (
    CleanAccuracy,
    Finding,
    Gain,
    Recommendation,
    SampleSize,
    Setting,
    StudyRecommendation,
)
from study.results.arms import CE


def recommendation_text(study: StudyRecommendation) -> str:
    """All recommendations of a study, with the code to paste.

    Args:
        study: from `analysis.recommendation.recommend.recommend`.
    """
    blocks = [_block(r, study) for r in study.recommendations]
    if not study.complete:
        missing = study.missing or "the study has no plan.json to compare with"
        blocks.insert(0, f"The study is not finished, and this may change: {missing}.")
    return "\n\n".join([*blocks, study.multiplicity])


def _block(r: Recommendation, study: StudyRecommendation) -> str:
    title = " · ".join(part for part in (r.dataset, r.noise, r.model) if part)
    sentences = [_answer(r, study), _zero(r, study), _labels(r), _sample_size(r.sample_size)]
    body = "\n".join(sentence for sentence in sentences if sentence)
    code = "\n".join(f"    {line}".rstrip() for line in r.snippet.splitlines())
    return f"{title}\n{body}\n\n{_table(r)}\n\n{code}"


def _answer(r: Recommendation, study: StudyRecommendation) -> str:
    """What to use, and what the comparison with cross-entropy shows."""
    what, margin = setting_text(r.candidate), points(study.margin)
    if r.finding == Finding.NOT_MEASURED:
        if r.recommended.loss == CE:
            why = "Nothing is measured against it on the confirm stage yet, so stay with it for now"
            first = "" if r.candidate.loss == CE else f" Validation ranks {what} first."
            return f"Use cross-entropy, learning rate {r.recommended.lr:.3g}. {why}.{first}"
        return (
            f"Use {what}: it ranks first on validation labels. The study has no cross-entropy to "
            "compare it with; add ce to grid.loss."
        )
    assert r.over_ce is not None
    gain = f"{_gain(r.over_ce, study.confidence)} over {count(r.over_ce.n, 'fresh seed')}"
    if r.finding == Finding.BETTER:
        return (
            f"Use {what}. Test accuracy minus that of cross-entropy (learning rate "
            f"{_ce_rate(r)}) is {gain}: the difference is real, because its interval lies above 0."
        )
    ce = f"cross-entropy, learning rate {r.recommended.lr:.3g}"
    if r.finding == Finding.WORSE:
        return (
            f"Use {ce}. It wins: the best other loss by validation, {what}, minus cross-entropy is "
            f"{gain}."
        )
    if r.finding == Finding.NO_DIFFERENCE:
        return (
            f"Use {ce}. No difference: the best other loss by validation, {what}, minus "
            f"cross-entropy is {gain}, within ± the margin of {margin} points."
        )
    return (
        f"Use {ce}. No difference can be shown: the best other loss by validation, {what}, minus "
        f"cross-entropy is {gain}; the interval contains 0, and the margin is {margin}."
    )


def _ce_rate(r: Recommendation) -> str:
    return next((f"{row.setting.lr:.3g}" for row in r.losses if row.setting.loss == CE), "–")


def setting_text(setting: Setting) -> str:
    """A setting in words: `mae with ε = 2.06 (rule activation), learning rate 0.31`."""
    params = ", ".join(f"{name} {value:g}" for name, value in sorted(setting.params.items()))
    loss = setting.loss + (f" ({setting.preset or params})" if setting.preset or params else "")
    rule = f" (rule {setting.rule})" if setting.rule else ""
    return f"{loss} with ε = {number(setting.epsilon)}{rule}, learning rate {setting.lr:.3g}"


def _gain(gain: Interval, confidence: float) -> str:
    assert gain.mean is not None
    text = f"{points(gain.mean)} percentage points"
    if gain.low is None or gain.high is None:
        return text
    return f"{text} ({100 * confidence:.0f} % interval {points(gain.low)} to {points(gain.high)})"


def _zero(r: Recommendation, study: StudyRecommendation) -> str:
    if r.candidate.epsilon == 0 and r.candidate.loss != CE:
        return f"Of {r.candidate.loss}, ε = 0 ranks first: it needs no logit bias here."
    zero: Gain | None = r.over_zero
    if zero is None or zero.mean is None:
        return ""
    return f"Over {r.candidate.loss} at ε = 0 it gains {_gain(zero, study.confidence)}."


def _labels(r: Recommendation) -> str:
    """What is known of the labels, and what the accuracies stand for."""
    labels = r.labels
    if labels.rate_source == "unknown":
        return (
            "Validation and test labels are as they are, and how many are wrong is unknown: wrong "
            "test labels make a real difference look smaller. With --noise-rate RATE this says "
            "what the accuracies stand for on correct labels."
        )
    sentences = []
    share = "" if labels.rate is None else f"{100 * labels.rate:.0f} % of the labels"
    if labels.rate_source == "measured" and share:
        where = " of the test examples" if labels.kind == "as-is" else ""
        sentences.append(f"{share}{where} are measured to be wrong.")
    elif labels.rate_source == "assumed":
        sentences.append(f"If {share} are wrong (--noise-rate):")
    if labels.validation is not None and labels.rate:
        sentences.append(f"validation accuracy {_stands_for(labels.validation)}.")
    if labels.test is not None:
        sentences.append(f"Test accuracy {_stands_for(labels.test)}.")
    if labels.gain is not None:
        sentences.append(
            f"The gain over cross-entropy stands for about {points(labels.gain)} points on correct "
            "labels."
        )
    if labels.test_labels == "correct":
        sentences.append("Test accuracy is measured on correct labels.")
    text = " ".join(sentences)
    return text[:1].upper() + text[1:]


def _stands_for(accuracy: CleanAccuracy) -> str:
    text = (
        f"{100 * accuracy.noisy:.1f} % on noisy labels stands for about "
        f"{100 * accuracy.estimate:.1f} % on correct ones"
    )
    if accuracy.low is None or accuracy.high - accuracy.low < 0.001:
        return text
    return f"{text} (possible: {100 * accuracy.low:.0f} to {100 * accuracy.high:.0f} %)"


def _sample_size(wanted: SampleSize | None) -> str:
    if wanted is None:
        return ""
    what = f"To show a difference of {points(wanted.difference)} points (power 80 %)"
    if wanted.seeds is None:
        if wanted.test_examples is None:
            return f"{what}, more test examples and more seeds than a study can have are needed."
        return (
            f"{what}, about {wanted.test_examples:,} test examples are needed; more seeds do not "
            "suffice."
        )
    if not wanted.networks:
        return f"{what}, {wanted.seeds} confirm seeds suffice, and the study has them."
    time = "" if wanted.minutes is None else f", {wanted.minutes:.1f} minutes of one worker"
    return (
        f"{what}, {wanted.seeds} confirm seeds are needed: {wanted.networks} networks more{time}."
    )


def _table(r: Recommendation) -> str:
    """One line per loss, at its best setting by validation."""
    header = (
        "loss",
        "ε",
        "learning rate",
        "validation %",
        "test %",
        "minus ce, points",
        "p (Holm)",
    )
    lines = [header]
    for row in r.losses:
        gain, setting = row.over_ce, row.setting
        if gain is None or gain.mean is None:
            difference = "–"
        elif gain.low is None or gain.high is None:
            difference = points(gain.mean)
        else:
            difference = f"{points(gain.mean)} ({points(gain.low)} to {points(gain.high)})"
        lines.append(
            (
                setting.loss + (f" {setting.preset}" if setting.preset else ""),
                number(setting.epsilon),
                f"{setting.lr:.3g}",
                "–" if row.validation is None else f"{100 * row.validation:.1f}",
                "–" if row.test.mean is None else f"{100 * row.test.mean:.1f}",
                difference,
                "–" if row.p_holm is None else f"{row.p_holm:.2g}",
            )
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
