"""ε of the rule activation-measured: measured once, kept with the study, estimated by `plan`."""

import json
from pathlib import Path

import pytest
import yaml
from growing import BEST, changed, write_folder
from tests_support import logit_bias

from study.config.loader import parse_study
from study.planning import initial_logits
from study.planning.open_study import folder_of, open_study, plan_in_folder, plan_of
from study.planning.plan import Plan
from trainables.errors import BadInputError
from trainables.theory.logits import MeasuredLogits

STUDY = changed(BEST, confirm__arms=["best", "tuned", "analytic:activation-measured", "zero"])


def ids(plan: Plan) -> set[str]:
    return {n.network_id for cell in plan.cells for n in plan.sweep_networks(cell)}


@pytest.fixture
def other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding differs with the processor: the same measurement has other last digits."""
    measure = initial_logits.measure_logits

    def elsewhere(*arguments: object, **options: object) -> MeasuredLogits:
        measured = measure(*arguments, **options)
        return MeasuredLogits(measured.logits * (1 + 1e-6), measured.labels)

    monkeypatch.setattr(initial_logits, "measure_logits", elsewhere)


def test_a_study_that_moves_to_another_machine_keeps_its_networks(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = write_folder(tmp_path, STUDY)
    here = ids(open_study(str(folder))[1])
    request.getfixturevalue("other_machine")
    study = {**STUDY, "storage": str(tmp_path)}
    config = parse_study(yaml.safe_dump(study).encode(), "study.yaml")
    assert ids(plan_of(config)) != here
    assert ids(open_study(str(folder))[1]) == here
    assert ids(plan_in_folder(config, folder_of(config))) == here


def test_a_cell_that_two_machines_measured_is_not_merged(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    one = write_folder(tmp_path / "a", STUDY, at_most=2)
    more = write_folder(tmp_path / "b", changed(STUDY, search__replicates=3), at_most=2)
    same = logit_bias("merge", str(one), str(more), "--output", str(tmp_path / "c/best"))
    assert same.returncode == 0, same.stderr
    request.getfixturevalue("other_machine")
    other = write_folder(tmp_path / "d", changed(STUDY, search__replicates=3), at_most=2)
    refused = logit_bias("merge", str(one), str(other), "--output", str(tmp_path / "e/best"))
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "has measured ε" in refused.stderr


def test_plan_estimates_it_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = {**STUDY, "storage": str(tmp_path / "new")}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    result = logit_bias("plan", str(tmp_path / "study.yaml"))
    assert result.returncode == 0, result.stderr
    assert "activation-measured about " in result.stdout
    assert "here from one untrained network" in result.stdout
    as_json = json.loads(logit_bias("plan", str(tmp_path / "study.yaml"), "--json").stdout)
    assert as_json["estimated_rules"] == ["activation-measured"]
    (cell,) = [c for c in as_json["cells"] if c["epsilon_analytic"]]
    exact = plan_of(parse_study(yaml.safe_dump(study).encode(), "study.yaml"))
    (epsilon,) = [e["activation-measured"] for e in exact.analytic.values() if e]
    assert cell["epsilon_analytic"]["activation-measured"] == pytest.approx(epsilon, abs=0.5)
    # With rows in its folder, the kept ε is shown.
    folder = write_folder(tmp_path / "begun", STUDY)
    begun = logit_bias("plan", str(folder / "study.yaml"))
    assert f"activation-measured {epsilon:.2f}" in begun.stdout
    assert "here from one untrained network" not in begun.stdout


def test_a_plan_without_its_data_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOGIT_BIAS_DATA", raising=False)
    grid = {"dataset": ["cifar10"], "model": ["resnet20"]}
    study = changed(STUDY, grid={**STUDY["grid"], **grid})
    with pytest.raises(BadInputError, match=r"analytic:activation-measured: data set 'cifar10'"):
        plan_of(parse_study(yaml.safe_dump(study).encode(), "study.yaml"))
