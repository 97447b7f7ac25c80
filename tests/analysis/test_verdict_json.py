"""verdict.json keeps its keys, their order and its numbers."""

import json
from pathlib import Path

import pytest
from planted import Planted, gaussian, write_study

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
        Planted("digit-pairs", 100, "symmetric", 0.4, response=gaussian(3.03), analytic=rules),
    ]
    return write_study(folder, cells, search=4, epochs=1)


def test_content_is_that_of_the_golden_file(tmp_path):
    """Written by the code before verdicts were records, with the same planted study."""
    verdict = analyse(str(golden_study(tmp_path)))
    written = dict(leaves(json.loads((tmp_path / "analysis/verdict.json").read_text())))
    golden = dict(leaves(json.loads(GOLDEN.read_text())))
    assert list(written) == list(golden)
    for path, expected in golden.items():
        if isinstance(expected, float):
            expected = pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert written[path] == expected, path
        assert type(written[path]) is type(golden[path]), path
    assert json.loads(json.dumps(verdict.to_json())) == json.loads(
        (tmp_path / "analysis/verdict.json").read_text()
    )


def test_tables_hold_the_verdict(tmp_path):
    analysis = compute(str(golden_study(tmp_path)))
    cell = analysis.verdict.cells[0]
    row = analysis.tables["cells"].iloc[0]
    assert row["verdict"] == cell.verdict.value
    assert row["regret_high"] == cell.primary_regret.high
    arms = analysis.tables["arms"].set_index(["cell_id", "arm"])
    key = (cell.cell_id, "analytic:activation")
    assert arms.loc[key, "regret"] == cell.regret["activation"].mean
    assert arms.loc[key, "accuracy"] == cell.accuracy["analytic:activation"].mean
    assert arms.loc[(cell.cell_id, "zero"), "regret_low"] == cell.controls["zero"].low


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_words(verdict):
    assert "_" not in verdict.word
    assert verdict.sentence
