"""The records of a recommendation: what `logit-bias recommend --json` prints.

The order of the fields is the order of the keys. Accuracies, gains and margins are fractions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from analysis.inference.records import Interval
from analysis.records import Record


class Finding(StrEnum):
    """What the comparison with cross-entropy shows."""

    BETTER = "better"
    """The interval of the gain lies above 0."""
    NO_DIFFERENCE = "no_difference"
    """The interval lies within ± the margin, and contains 0."""
    UNDECIDED = "undecided"
    """The interval contains 0 and reaches beyond the margin."""
    WORSE = "worse"
    """The interval lies below 0: cross-entropy wins."""
    NOT_MEASURED = "not_measured"
    """Fewer than two paired networks of the confirm stage."""


@dataclass(frozen=True)
class Setting(Record):
    """A loss with everything that a training loop needs.

    Attributes:
        cell_id: the cell.
        arm: the arm of the study; the arm of the search where nothing is confirmed yet.
        loss: name of the loss.
        params: parameters of the loss that differ from its defaults.
        preset: published parameter values that the study file names; None for none.
        epsilon: logit bias.
        rule: the rule that gives this ε; None where it was chosen or is 0.
        lr: learning rate.
    """

    cell_id: str
    arm: str
    loss: str
    params: dict[str, float]
    preset: str | None
    epsilon: float
    rule: str | None
    lr: float


@dataclass(frozen=True)
class Gain(Interval):
    """Test accuracy of one setting minus that of another, on common fresh seeds.

    The interval (level `confidence`) is over seeds and test examples.

    Attributes:
        p: one-sided p value of a gain above 0; None without an interval.
        seeds_sd: standard deviation of the difference between seeds; None below two seeds.
        examples_error: standard error that the choice of test examples adds; None where unknown.
    """

    p: float | None
    seeds_sd: float | None
    examples_error: float | None


@dataclass(frozen=True)
class LossRow(Record):
    """The best setting of one loss, by validation, against cross-entropy.

    Attributes:
        setting: the loss with its ε and learning rate.
        validation: accuracy that the search and the sweep expect of it on validation labels.
        test: test accuracy of the confirm stage.
        over_ce: gain over cross-entropy; None where it was not measured.
        p_holm: p value of that gain, corrected for the number of losses (Holm 1979).
    """

    setting: Setting
    validation: float | None
    test: Interval
    over_ce: Gain | None
    p_holm: float | None


@dataclass(frozen=True)
class CleanAccuracy(Record):
    """What an accuracy on noisy labels stands for on correct ones.

    Attributes:
        noisy: accuracy on the noisy labels.
        estimate: accuracy on correct labels, if the network's errors do not follow the noise; exact
            for symmetric noise.
        low: the least accuracy on correct labels that is possible; None where no bound is known.
        high: the largest one that is possible.
    """

    noisy: float
    estimate: float
    low: float | None
    high: float


@dataclass(frozen=True)
class Labels(Record):
    """What is known of a data set's labels.

    Attributes:
        kind: kind of noise; `as-is` for labels that may be wrong already.
        rate: share of wrong labels; None where it is unknown.
        rate_source: `requested`, `measured`, `assumed` (--noise-rate) or `unknown`.
        test_labels: `correct`, or `as-is`.
        validation: of the candidate's validation accuracy; None where the noise is unknown.
        test: of the candidate's test accuracy; None where its labels are correct, or the noise is
            unknown.
        gain: estimate of the gain over cross-entropy on correct labels, where it was measured on
            noisy ones and the noise is known; else None.
    """

    kind: str
    rate: float | None
    rate_source: str
    test_labels: str
    validation: CleanAccuracy | None
    test: CleanAccuracy | None
    gain: float | None


@dataclass(frozen=True)
class SampleSize(Record):
    """What it takes to show a difference of a given size with a power of 80 %.

    Attributes:
        difference: the size, a fraction.
        seeds: confirm seeds per arm (`confirm.seeds`); None where no number of them suffices.
        networks: networks that the seeds stand for beyond those that there are.
        minutes: their training time in one worker; None where unknown.
        test_examples: test examples that are needed where seeds alone do not suffice; else None.
    """

    difference: float
    seeds: int | None
    networks: int | None
    minutes: float | None
    test_examples: int | None


@dataclass(frozen=True)
class Recommendation(Record):
    """The recommendation for one data set, label noise and model.

    Attributes:
        dataset: the data set.
        noise: the label noise, as in cell ids.
        model: the model.
        classes: number of classes.
        finding: what the comparison of candidate and cross-entropy shows.
        recommended: the candidate where it is shown to be better; cross-entropy otherwise, and
            the candidate in a study without cross-entropy.
        candidate: of all losses, the setting that ranks first on validation labels.
        over_ce: its gain over cross-entropy.
        over_zero: its gain over its own loss at ε = 0; None where its ε is 0 or 0 was not run.
        losses: the best setting of each loss, by validation, the first one first.
        considered: number of settings (loss, ε and learning rate) that were ranked.
        labels: what is known of the labels.
        sample_size: what it takes to show the difference from cross-entropy; None where it is
            shown, or nothing was measured.
        snippet: Python code that trains with `recommended`.
    """

    dataset: str
    noise: str
    model: str
    classes: int
    finding: Finding
    recommended: Setting
    candidate: Setting
    over_ce: Gain | None
    over_zero: Gain | None
    losses: list[LossRow]
    considered: int
    labels: Labels
    sample_size: SampleSize | None
    snippet: str


@dataclass(frozen=True)
class StudyRecommendation(Record):
    """All recommendations of a study.

    Attributes:
        schema_version: of this record.
        study: the study's name.
        folder: the folder.
        complete: whether every planned network has a row.
        missing: what is missing, in words; empty where nothing is.
        confidence: two-sided level of the intervals.
        margin: a difference below it counts as none.
        multiplicity: how the choice of the best of several losses is accounted for.
        recommendations: one per data set, label noise and model.
    """

    schema_version: int
    study: str
    folder: str
    complete: bool
    missing: str
    confidence: float
    margin: float
    multiplicity: str
    recommendations: list[Recommendation] = field(default_factory=list)
