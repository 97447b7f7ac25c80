"""verdict.json keeps its keys, their order and its numbers."""

import json
import os
from pathlib import Path

import pytest
from planted import BEST_ARMS, Planted, gaussian, write_study

from analysis.inference.records import Verdict
from analysis.verdict import analyse, compute

GOLDEN = Path(__file__).parent / "golden" / "verdict.json"


def leaves(value, path=()):
    """(path, value) of every number, text, truth value and null, in order."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for k, item in enumerate(value):
            yield from leaves(item, (*path, k))
    else:
        yield path, value


def golden_study(folder: Path) -> Path:
    rules = {"activation": 3.03, "gradient": 4.1}
    low = {"activation": 0.5}
    cells = [
        Planted(
            "digits", 10, "symmetric", 0.0, response=gaussian(0.9, 0.97), analytic=low, ce=0.97
        ),
        Planted("digit-pairs", 100, "symmetric", 0.0, analytic=rules),
        Planted("digit-pairs", 100, "symmetric", 0.4, response=gaussian(2.4), analytic=rules),
    ]
    return write_study(
        folder, cells, search=12, epochs=1, arms=BEST_ARMS, test_examples=300, plan=True
    )


CURVES = {"epsilon_best", "indifference", "response", "value_agreement", "noise_slopes"}
"""Keys of what is drawn from the posterior of curves; its own tests check the numbers."""
SURFACES = {"value", "over_zero", "controls", "all_cells_value", "recovered", "scope"}
"""Keys of what is drawn from the posterior of surfaces; the numbers are compared roughly."""


def test_content_is_that_of_the_golden_file(tmp_path):
    """To write it anew: LOGIT_BIAS_GOLDEN=1 pytest tests/analysis/test_verdict_json.py."""
    verdict = analyse(str(golden_study(tmp_path)))
    text = (tmp_path / "analysis/verdict.json").read_text()
    if os.environ.get("LOGIT_BIAS_GOLDEN"):
        GOLDEN.write_text(text)
    written, golden = dict(leaves(json.loads(text))), dict(leaves(json.loads(GOLDEN.read_text())))
    assert list(written) == list(golden)
    for path, expected in golden.items():
        keys = set(map(str, path))
        if keys & CURVES:
            assert type(written[path]) is type(expected), path
        elif isinstance(expected, float):
            rough = keys & SURFACES and "measured" not in keys
            close = {"rel": 0.05, "abs": 2e-3} if rough else {"rel": 1e-6, "abs": 1e-9}
            assert written[path] == pytest.approx(expected, **close), path
        elif "sentence" not in keys:
            assert written[path] == expected, path
    assert json.loads(json.dumps(verdict.to_json())) == json.loads(text)


def test_tables_hold_the_verdict(tmp_path):
    analysis = compute(str(golden_study(tmp_path)))
    cell = analysis.verdict.cells[0]
    row = analysis.tables["cells"].iloc[0]
    assert row["verdict"] == cell.verdict.value
    assert row["value_high"] == cell.primary_value.high
    assert row["procedure_low"] == cell.primary_procedure.low
    assert row["recovered"] == cell.recovered["activation"].value
    arms = analysis.tables["arms"].set_index(["cell_id", "arm"])
    key = (cell.cell_id, "analytic:activation")
    assert arms.loc[key, "cost"] == cell.value["activation"].mean
    assert arms.loc[key, "lr"] == 0.1
    assert arms.loc[key, "accuracy"] == cell.accuracy["analytic:activation"].mean
    assert arms.loc[(cell.cell_id, "zero"), "cost_low"] == cell.controls["zero"].low
    choices = analysis.tables["choices"]
    assert len(choices) == 4 * sum(1 + len(c.epsilon_analytic) for c in analysis.verdict.cells)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_words(verdict):
    assert "_" not in verdict.word
    assert verdict.sentence
