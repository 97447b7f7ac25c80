"""Recommendations of planted studies, whose best loss is known."""

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import BEST_ARMS, Planted, gaussian, write_study

from analysis.console import strict
from analysis.data.load import load
from analysis.inference.design import Spread
from analysis.recommendation.candidates import candidates_of
from analysis.recommendation.clean_accuracy import clean_accuracy, of_rate, of_transitions
from analysis.recommendation.comparisons import sample_size
from analysis.recommendation.recommend import recommend
from analysis.recommendation.records import Finding, Gain
from analysis.recommendation.text import _sample_size, recommendation_text


def two_losses(ce: float) -> list[Planted]:
    """MAE reaches 93 % at ε 3.6, GCE 91 %."""
    return [
        Planted(ce=ce, response=gaussian(top=0.93)),
        Planted(ce=ce, loss="gce", response=gaussian(top=0.91)),
    ]


def planted(folder: Path, ce: float, **settings: object) -> Path:
    settings = {"confirm_seeds": 8, "replicates": 1, "test_examples": 2000, "plan": True} | settings
    return write_study(folder, two_losses(ce), arms=BEST_ARMS, **settings)  # type: ignore[arg-type]


def test_the_better_loss_with_its_gains_and_code(tmp_path: Path) -> None:
    result = recommend(str(planted(tmp_path / "s", ce=0.85)))
    (only,) = result.recommendations
    assert only.finding == Finding.BETTER
    assert only.recommended == only.candidate
    assert (only.recommended.loss, only.recommended.arm) in [("mae", "best"), ("mae", "double")]
    assert only.over_ce is not None
    assert only.over_ce.low is not None
    assert only.over_ce.low < 0.08 < only.over_ce.high  # type: ignore[operator]
    assert only.over_zero is not None
    assert only.over_zero.low > 0.3  # type: ignore[operator]
    assert [row.setting.loss for row in only.losses] == ["mae", "gce", "ce"]
    assert [row.p_holm is not None and row.p_holm < 0.01 for row in only.losses[:2]] == [True] * 2
    assert only.sample_size is None
    calls = [n for n in ast.walk(ast.parse(only.snippet)) if isinstance(n, ast.Call)]
    criterion = next(c for c in calls if getattr(c.func, "id", "") == "Criterion")
    known = {k.arg: ast.literal_eval(k.value) for k in criterion.keywords}
    assert known == {"classes": 100, "epsilon": pytest.approx(only.recommended.epsilon, rel=1e-4)}
    text = recommendation_text(result)
    assert "the difference is real" in text
    assert json.loads(json.dumps(strict(result), allow_nan=False))["schema_version"] == 1


def test_cross_entropy_is_recommended_where_it_wins(tmp_path: Path) -> None:
    (only,) = recommend(str(planted(tmp_path / "s", ce=0.97))).recommendations
    assert only.finding == Finding.WORSE
    assert [row.p_holm is not None and row.p_holm > 0.9 for row in only.losses[:2]] == [True] * 2
    assert only.recommended.loss == "ce"
    assert "torch.nn.CrossEntropyLoss()" in only.snippet


def test_no_difference_within_a_margin(tmp_path: Path) -> None:
    folder = planted(tmp_path / "s", ce=0.93, confirm_seeds=20, test_examples=0)
    result = recommend(str(folder), margin=0.02)
    (only,) = result.recommendations
    assert only.finding == Finding.NO_DIFFERENCE
    assert only.recommended.loss == "ce"
    assert "within ± the margin of 2.00 points" in recommendation_text(result)


def test_what_is_not_shown_says_what_it_would_take(tmp_path: Path) -> None:
    folder = planted(tmp_path / "s", ce=0.93, sd=0.02, confirm_seeds=3, test_examples=0)
    result = recommend(str(folder), margin=0.005)
    (only,) = result.recommendations
    assert only.finding == Finding.UNDECIDED
    assert only.recommended.loss == "ce"
    assert only.sample_size is not None
    assert only.sample_size.seeds is not None
    assert only.sample_size.seeds > 3
    assert (
        only.sample_size.networks == (only.sample_size.seeds - 3) * 11
    )  # five arms of each loss on common seeds, and ce
    assert "No difference can be shown" in recommendation_text(result)


@settings(deadline=None, max_examples=20)
@given(st.floats(1e-4, 0.003), st.floats(0.006, 0.05), st.integers(8, 30))
def test_where_more_seeds_do_not_suffice_the_test_examples_are_counted(
    seeds_sd: float, examples_error: float, n: int
) -> None:
    gain = Gain(0.001, -0.01, 0.012, n, 0.4, seeds_sd, examples_error)
    needed = sample_size(gain, 0.005, 11, 3.0, test_examples=1000)
    assert needed is not None
    assert (needed.difference, needed.seeds, needed.networks) == (0.005, None, None)
    assert needed.test_examples is not None
    powers = [
        Spread(seeds_sd, examples_error**2 * 1000 / (share * needed.test_examples)).power(n, 0.005)
        for share in (0.7, 1.0)
    ]
    assert powers[0] < 0.8
    assert powers[1] == pytest.approx(0.8, abs=0.08)
    assert "test examples are needed; more seeds do not" in _sample_size(needed)
    unknown = sample_size(gain, 0.005, 11, 3.0, test_examples=None)
    assert unknown is not None
    assert (unknown.seeds, unknown.test_examples) == (None, None)


@pytest.mark.parametrize("has_surface", [True, False])
def test_the_choice_sees_neither_test_accuracy_nor_the_confirm_stage(
    has_surface: bool, tmp_path: Path
) -> None:
    """With enough networks for a surface, and with too few."""
    study = load(str(planted(tmp_path / "s", ce=0.85, search=24 if has_surface else 2)))
    rows = study.trials[study.trials["loss"] == "mae"]
    if not has_surface:
        rows = rows[rows["stage"] != "sweep"]
        assert (rows["stage"] == "search").sum() < 12
    of_cell = rows[rows["cell_id"] == rows["cell_id"].iloc[0]]
    confirm = of_cell["stage"] == "confirm"
    rng = np.random.default_rng(0)
    changed = of_cell.copy()
    for column in ("test_acc", "val_acc_noisy", "val_acc_clean"):
        changed.loc[confirm, column] = rng.uniform(size=int(confirm.sum()))
    changed.loc[~confirm, "val_acc_clean"] = rng.uniform(size=int((~confirm).sum()))
    ranks = [
        [(c.setting.arm, c.validation) for c in candidates_of("c", frame, {}, "val_acc_noisy")]
        for frame in (of_cell, changed)
    ]
    assert ranks[0] == ranks[1]
    assert len(ranks[0]) == 5


def test_a_study_on_the_way(tmp_path: Path) -> None:
    folder = planted(tmp_path / "s", ce=0.85)
    shutil.rmtree(folder / "trials/confirm")
    result = recommend(str(folder))
    (only,) = result.recommendations
    assert only.finding == Finding.NOT_MEASURED
    assert only.candidate.loss == "mae"
    text = recommendation_text(result)
    assert text.startswith("The study is not finished, and this may change: ")
    assert "confirm networks are missing" in text.splitlines()[0]
    assert f"Use mae with ε = {only.candidate.epsilon:.2f}" in text


def test_symmetric_noise_says_what_noisy_accuracy_stands_for(tmp_path: Path) -> None:
    (only,) = recommend(str(planted(tmp_path / "s", ce=0.85))).recommendations
    validation = only.labels.validation
    assert validation is not None
    # The planted noisy accuracy is (1 − rate) times the clean one: errors never agree by chance.
    assert validation.estimate == pytest.approx(validation.noisy / 0.6, abs=0.01)
    assert only.labels.test_labels == "correct"


@st.composite
def noises(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A transition matrix with one rate, and the predictions of a network, per true class."""
    classes = draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kept = draw(st.floats(0.55, 1.0))
    others = rng.dirichlet(np.full(classes - 1, draw(st.sampled_from([0.1, 1.0, 100.0]))), classes)
    matrix = np.zeros((classes, classes))
    matrix[~np.eye(classes, dtype=bool)] = ((1 - kept) * others).ravel()
    matrix += kept * np.eye(classes)
    right = draw(st.floats(0.0, 1.0))
    wrong = rng.dirichlet(np.ones(classes - 1), classes)
    predicted = np.zeros((classes, classes))
    predicted[~np.eye(classes, dtype=bool)] = ((1 - right) * wrong).ravel()
    return matrix, predicted + right * np.eye(classes)


@given(noises())
def test_the_true_accuracy_lies_within_the_bounds(noise: tuple[np.ndarray, np.ndarray]) -> None:
    matrix, predicted = noise
    classes = len(matrix)
    rows, columns = np.nonzero(matrix)
    frame = pd.DataFrame(
        {"true_class": rows, "noisy_class": columns, "share": matrix[rows, columns]}
    )
    noisy = float((matrix * predicted).sum() / classes)  # equally large classes
    found = clean_accuracy(noisy, of_transitions(frame, classes))
    if found is None:
        return
    truth = float(np.diag(predicted).mean())
    assert found.low is None or found.low <= truth + 1e-9
    assert truth <= found.high + 1e-9


@given(st.integers(2, 50), st.floats(0, 0.45), st.floats(0, 1))
def test_symmetric_noise_is_inverted_exactly(classes: int, rate: float, truth: float) -> None:
    noisy = truth * (1 - rate) + (1 - truth) * rate / (classes - 1)
    found = clean_accuracy(noisy, of_rate(rate, classes, is_symmetric=True))
    assert found is not None
    assert found.estimate == pytest.approx(truth, abs=1e-9)
    assert found.low == pytest.approx(truth, abs=1e-9)


@pytest.mark.slow
def test_no_loss_is_called_better_more_often_than_the_level_allows(tmp_path: Path) -> None:
    """Four losses as good as cross-entropy: the best by validation is called better in 5 %."""
    better = 0
    for k in range(60):
        losses = ("mae", "gce", "agce", "rce")
        cells = [Planted(ce=0.93, loss=loss, response=gaussian(top=0.93)) for loss in losses]
        folder = write_study(
            tmp_path / str(k), cells, arms=BEST_ARMS, confirm_seeds=8, replicates=1, rng=k, sd=0.01
        )
        better += recommend(str(folder)).recommendations[0].finding == Finding.BETTER
    assert better <= 8  # P(more than 8 of 60 | 5 %) = 0.3 %
