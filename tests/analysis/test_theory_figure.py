"""The figure of initial error and logit density."""

import pytest

from analysis.report.theory_figure import draw
from trainables.theory.logit_bias import solve_epsilon


def test_draws_before_and_after_and_is_reproducible(tmp_path):
    for name in ("one.svg", "two.svg"):
        draw(tmp_path / name, loss="mae", classes=1000, value=solve_epsilon(1000))
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    assert "1000 classes, ε = 0 (overlap 0.4 %)" in text
    assert "1000 classes, ε = 5.33 (overlap 44 %)" in text
    assert "10 classes, ε = 0.5 (overlap 44 %)" in text


def test_draws_another_parameter(tmp_path):
    draw(tmp_path / "q.svg", loss="gce", classes=100, value=0.38, parameter="q")
    assert "100 classes, q = 0.38" in (tmp_path / "q.svg").read_text()


def test_draws_a_loss_that_is_sampled(tmp_path):
    draw(tmp_path / "nce.svg", loss="nce_mae", classes=20, value=1.0)
    assert "20 classes, ε = 1 (overlap" in (tmp_path / "nce.svg").read_text()


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown loss"):
        draw(tmp_path / "no.svg", loss="nothing", classes=10, value=1.0)
    with pytest.raises(ValueError, match="no parameter q"):
        draw(tmp_path / "no.svg", loss="mae", classes=10, value=1.0, parameter="q")
