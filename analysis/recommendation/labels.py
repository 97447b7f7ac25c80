"""What is known of a study's labels, and what its accuracies stand for on correct ones."""

from __future__ import annotations

import pandas as pd

from analysis.data.load import LoadError, Study
from analysis.recommendation.candidates import Candidate
from analysis.recommendation.clean_accuracy import (
    NoiseModel,
    clean_accuracy,
    of_rate,
    of_transitions,
)
from analysis.recommendation.records import Gain, Labels
from study.results.folder import ResultsError, StudyFolder
from study.results.schema import AS_IS

_SYMMETRIC = "symmetric"


def labels_of(
    study: Study,
    candidate: Candidate,
    over_ce: Gain | None,
    classes: int,
    noise: str,
    noise_rate: float | None,
) -> Labels:
    """What is known of the labels behind a candidate.

    Args:
        study: the study.
        candidate: the recommended setting, or what would be recommended.
        over_ce: its gain over cross-entropy on the test labels.
        classes: number of classes.
        noise: the noise, as in cell ids.
        noise_rate: assumed share of wrong labels where the study does not know it.
    """
    row = study.trials[study.trials["cell_id"] == candidate.setting.cell_id].iloc[0]
    kind, dataset = str(row["noise_kind"]), str(row["dataset"])
    rate: float | None = None if pd.isna(row["noise_rate"]) else float(row["noise_rate"])
    known = _transitions(study, dataset, noise, classes)
    is_as_is = kind == AS_IS
    # Of labels as they are, the record holds what rows of known label show: the test examples.
    has_correct_tests = not is_as_is or known is not None
    source, model = "requested", known
    if is_as_is:
        if known is not None:
            source, rate = "measured", 1 - known.kept
        elif noise_rate is not None:
            source, rate = "assumed", noise_rate
            model = of_rate(noise_rate, classes, is_symmetric=False)
        else:
            source = "unknown"
    elif kind == _SYMMETRIC and rate is not None:
        model = of_rate(rate, classes, is_symmetric=True)
    elif known is not None and pd.isna(row["noise_rate_requested"]):
        source = "measured"
    noisy = candidate.rows["val_acc_noisy"].mean() if len(candidate.rows) else candidate.validation
    tested = candidate.rows["test_acc"].mean() if len(candidate.rows) else None
    validation = test = gain = None
    if model is not None:
        if noisy is not None and pd.notna(noisy):
            validation = clean_accuracy(float(noisy), model)
        if not has_correct_tests:
            if tested is not None and pd.notna(tested):
                test = clean_accuracy(float(tested), model)
            if over_ce is not None and over_ce.mean is not None and model.slope > 0:
                gain = over_ce.mean / model.slope
    return Labels(
        kind=kind,
        rate=rate,
        rate_source=source,
        test_labels="correct" if has_correct_tests else AS_IS,
        validation=validation,
        test=test,
        gain=gain,
    )


def _transitions(study: Study, dataset: str, noise: str, classes: int) -> NoiseModel | None:
    """The noise as `noise.parquet` has it: as drawn, or as measured on rows of known label."""
    try:
        table = StudyFolder(study.uris[0]).read_transitions()
    except ResultsError as error:
        raise LoadError(" ".join(str(error).split())) from error
    if table is None:
        return None
    rows: pd.DataFrame = table.to_pandas()
    rows = rows[(rows["dataset"] == dataset) & (rows["noise"] == noise)]
    return of_transitions(rows, classes) if len(rows) else None
