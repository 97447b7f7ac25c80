"""Figures of the noise as drawn and of the logits' spread: their content, and when they occur."""

import re
from pathlib import Path

import numpy as np
import pytest
from planted import BEST_ARMS, Planted, gaussian, write_study

from analysis.data.load import load
from analysis.exploratory.logit_spread import logit_spread
from analysis.exploratory.transitions import transition_matrices
from analysis.report.html import report
from analysis.verdict import compute
from study.results.folder import StudyFolder
from trainables.theory.logit_bias import solve_epsilon


def with_noise(folder: Path, matrix: np.ndarray, names: list[str]) -> None:
    rows = [
        {
            "dataset": "digit-pairs", "noise": "asymmetric-0.4", "noise_kind": "asymmetric",
            "noise_rate_asked": 0.4, "true_class": int(i), "noisy_class": int(j),
            "true_name": names[i], "noisy_name": names[j], "share": float(matrix[i, j]),
        }
        for i, j in np.argwhere(matrix > 0)
    ]  # fmt: skip
    StudyFolder(str(folder)).write_transitions(rows)


def test_transition_matrices_are_read_and_drawn(tmp_path):
    matrix = np.array([[0.6, 0.4, 0], [0, 1, 0], [0.1, 0, 0.9]])
    folder = write_study(tmp_path, [Planted()])
    with_noise(folder, matrix, ["cat", "dog", "frog"])
    (transition,) = transition_matrices(load(str(folder)))
    assert np.array_equal(transition.matrix, matrix)
    assert transition.wrong == pytest.approx((0.4 + 0 + 0.1) / 3)
    assert transition.largest(2) == [("cat", "dog", 0.4), ("frog", "cat", pytest.approx(0.1))]
    text = Path(report(str(folder))).read_text()
    assert "16.7 % wrong; most often cat → dog (40 %)" in text
    assert (folder / "analysis/figures/transition-1.pdf").stat().st_size > 1000


def test_many_classes_and_clean_labels(tmp_path):
    many = np.full((100, 100), 0.4 / 99) + np.eye(100) * (0.6 - 0.4 / 99)
    folder = write_study(tmp_path / "many", [Planted()])
    with_noise(folder, many, [str(k) for k in range(100)])
    assert transition_matrices(load(str(folder)))[0].wrong == pytest.approx(0.4)
    assert "transition-1" in Path(report(str(folder))).read_text()
    clean = write_study(tmp_path / "clean", [Planted()])
    with_noise(clean, np.eye(3), ["a", "b", "c"])
    assert transition_matrices(load(str(clean))) == []
    assert transition_matrices(load(str(write_study(tmp_path / "none", [Planted()])))) == []


def test_best_epsilon_against_the_logits_spread(tmp_path):
    """Planted: the best ε of one model is the rule's ε for its measured spread."""
    wide = Planted(model="deep", response=gaussian(solve_epsilon(100, sigma=2.0)))
    narrow = Planted(model="mlp", response=gaussian(solve_epsilon(100)))
    folder = write_study(tmp_path, [wide, narrow], sd=0.001)
    frame = load(str(folder)).trials
    spreads = frame["model"].map({"deep": 2.0, "mlp": 1.0})
    analysis = compute(str(folder))
    analysis.study.trials["logit_std_init"] = spreads
    table = logit_spread(analysis.study, analysis.verdict.cells).set_index("model")
    assert table.loc["mlp", "off_at_1"] == pytest.approx(0, abs=0.15)
    assert table.loc["deep", "off_at_spread"] == pytest.approx(0, abs=0.15)
    assert table.loc["deep", "off_at_1"] == pytest.approx(
        solve_epsilon(100, sigma=2.0) - solve_epsilon(100), abs=0.15
    )
    text = Path(report(str(folder))).read_text()
    assert "follow depth and architecture" in text
    single = write_study(tmp_path / "one", [narrow])
    assert "follow depth and architecture" not in Path(report(str(single))).read_text()


def test_short_tables_are_written_as_latex_too(tmp_path):
    folder = write_study(tmp_path, [Planted()], arms=BEST_ARMS)
    report(str(folder))
    tables = folder / "analysis/tables"
    for name in ("cells", "arms", "costs", "value_agreement", "dynamics", "importance"):
        text = (tables / f"{name}.tex").read_text()
        assert text.startswith(r"\begin{tabular}")
        assert re.search(r"(?<!\\)_", text) is None  # escaped for LaTeX
    assert (tables / "response_curve.csv").is_file()
