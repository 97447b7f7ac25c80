"""ε of the rule activation-measured: measured once, kept with the study, estimated by `plan`."""

import json
from pathlib import Path

import pytest
import yaml
from growing import BEST, changed, write_folder
from tests_support import logit_bias

from study.config.loader import parse_study
from study.execution.lease import StudyBusyError
from study.execution.run import _check_begun_by_nobody_else
from study.planning import initial_logits
from study.planning.open_study import (
    compare_with_folder,
    folder_of,
    open_study,
    plan_in_folder,
    plan_of,
)
from study.planning.plan import Plan
from trainables.errors import BadInputError
from trainables.theory.logits import MeasuredLogits

ARMS = ["best", "tuned", "analytic:activation-measured", "analytic:gradient", "zero"]
STUDY = changed(BEST, confirm__arms=ARMS)


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


@pytest.mark.parametrize("plan_file", ["as written", "of an older version", "damaged", "lost"])
def test_a_study_that_moves_to_another_machine_keeps_its_networks(
    plan_file: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = write_folder(tmp_path, STUDY)
    here = ids(open_study(str(folder))[1])
    path = folder / "plan.json"
    content = path.read_text()
    if plan_file == "of an older version":
        path.write_text(content.replace("measured_epsilons", "unknown"))
    elif plan_file == "damaged":
        path.write_text(content[:100])
    elif plan_file == "lost":
        path.unlink()
    request.getfixturevalue("other_machine")
    study = {**STUDY, "storage": str(tmp_path)}
    config = parse_study(yaml.safe_dump(study).encode(), "study.yaml")
    assert ids(plan_of(config)) != here
    assert ids(open_study(str(folder))[1]) == here
    assert ids(plan_in_folder(config, folder_of(config))) == here


def test_a_study_that_grows_keeps_its_epsilons(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    write_folder(tmp_path, STUDY)
    noise = [*STUDY["grid"]["noise"], {"kind": "symmetric", "rate": 0.1}]
    grown = {**changed(STUDY, grid__noise=noise), "storage": str(tmp_path)}
    (tmp_path / "grown.yaml").write_text(yaml.safe_dump(grown))
    request.getfixturevalue("other_machine")
    config = parse_study(yaml.safe_dump(grown).encode(), "grown.yaml")
    folder = folder_of(config)
    before, after = open_study(folder.uri)[1], plan_in_folder(config, folder)
    for cell, epsilons in before.analytic.items():
        assert after.analytic[cell] == epsilons
    assert compare_with_folder(folder, config, after) is not None  # not refused


def test_what_another_run_began_meanwhile_is_not_mixed(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config = parse_study(yaml.safe_dump({**STUDY, "storage": str(tmp_path)}).encode(), "study.yaml")
    write_folder(tmp_path, STUDY, at_most=2)
    request.getfixturevalue("other_machine")
    planned_before = plan_of(config)
    with pytest.raises(StudyBusyError, match="another run began this study a moment ago"):
        _check_begun_by_nobody_else(folder_of(config), planned_before)
    _check_begun_by_nobody_else(folder_of(config), plan_in_folder(config, folder_of(config)))


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


def test_plan_estimates_it_and_says_so(tmp_path: Path) -> None:
    study = {**STUDY, "storage": str(tmp_path / "new")}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    result = logit_bias("plan", str(tmp_path / "study.yaml"))
    assert result.returncode == 0, result.stderr
    assert "activation-measured about " in result.stdout
    assert "here from one untrained network" in result.stdout
    as_json = json.loads(logit_bias("plan", str(tmp_path / "study.yaml"), "--json").stdout)
    assert as_json["estimated_rules"] == ["activation-measured", "gradient"]
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
