"""`init_gain` sets the spread of the initial logits, and changes nothing where it is not given."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from growing import changed
from tests_support import TINY_STUDY, logit_bias

from study.config.loader import StudyFileError, parse_study
from study.execution.reproduce import reproduce
from study.planning.cohort_specs import cohort_spec, identity_columns
from study.planning.initial_logits import initial_logits
from study.planning.plan import Plan, make_plan, planned_cells
from study.results.folder import StudyFolder
from study.results.schema import SCHEMA_VERSION, TRIALS
from trainables import models
from trainables.engine.trainer import train

MLP = {"name": "mlp", "width": 8, "depth": 1}


def study_of(*choices: dict[str, Any]) -> dict[str, Any]:
    return changed(TINY_STUDY, grid__model=list(choices))


def plan_of(*choices: dict[str, Any]) -> Plan:
    return make_plan(parse_study(yaml.safe_dump(study_of(*choices)).encode(), "study.yaml"))


@pytest.mark.parametrize("name", ["mlp", "cnn8", "resnet20", "resnet18"])
def test_logits_scale_exactly_and_no_draw_changes(name: str) -> None:
    model = models.build(name, (1, 8, 8), 10, {}).eval()
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits, others = [], []
    for gain in (1.0, 0.25, 3.0):
        models.initialise(model, torch.Generator().manual_seed(1), "kaiming_glorot", gain)
        logits.append(model(x).detach())
        others.append(next(model.parameters()).clone())
    assert torch.equal(logits[1], logits[0] / 4)  # a power of two: no rounding
    torch.testing.assert_close(logits[2], logits[0] * 3)
    assert torch.equal(others[0], others[1])
    assert float(logits[0].abs().sum()) > 0


def test_the_measured_spread_and_epsilon_follow_the_gain() -> None:
    study = changed(
        study_of(MLP, {**MLP, "init_gain": 4}),
        confirm__arms=["tuned", "analytic:activation-measured", "zero"],
    )
    config = parse_study(yaml.safe_dump(study).encode(), "study.yaml")
    measured = initial_logits(config, planned_cells(config))
    plain, wide = measured["digits/mlp-8x1"], measured["digits/mlp-8x1-gain=4"]
    assert wide.sigma == pytest.approx(4 * plain.sigma, rel=1e-6)
    epsilons = {
        cell.model.label: values["activation-measured"]
        for cell, values in make_plan(config, measured).analytic.items()
    }
    assert abs(epsilons["mlp-8x1"] - epsilons["mlp-8x1-gain=4"]) > 0.1


def test_the_default_changes_no_id() -> None:
    plain, default, wide = (
        plan_of({**MLP, **more}) for more in ({}, {"init_gain": 1}, {"init_gain": 3})
    )
    ids = [
        [n.network_id for cell in plan.cells for n in plan.sweep_networks(cell)]
        for plan in (plain, default, wide)
    ]
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])
    assert {cell.model.label for cell in wide.cells} == {"mlp-8x1-gain=3"}


def test_rows_with_a_gain_reproduce(tmp_path: Path) -> None:
    plan = plan_of(MLP, {**MLP, "init_gain": 3})
    folder = StudyFolder(str(tmp_path / "tiny"))
    spread = {}
    for cell in plan.cells:
        if not cell.takes_epsilon:
            continue
        networks = plan.sweep_networks(cell)[:2]
        results = train(cohort_spec(plan.config, networks))
        trials = [
            {
                **dict.fromkeys(TRIALS.names),
                **identity_columns(plan.config, network),
                **result.metrics.to_row(),
                **{"schema_version": SCHEMA_VERSION, "cohort_id": cell.model.label},
                **{"device": "cpu", "study": "tiny"},
            }
            for network, result in zip(networks, results, strict=True)
        ]
        epochs = [epoch.to_row() for result in results for epoch in result.epochs]
        folder.write_part("sweep", cell.model.label, trials, epochs)
        spread[cell.model.label] = trials[0]["logit_std_init"]
        last = trials[-1]["network_id"]
    folder.write_bytes(
        "study.yaml", yaml.safe_dump(study_of(MLP, {**MLP, "init_gain": 3})).encode()
    )
    assert spread["mlp-8x1-gain=3"] == pytest.approx(3 * spread["mlp-8x1"], rel=1e-5)
    again = reproduce(folder.uri, last)
    assert again.compared > 10
    assert again.differences == []


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({**MLP, "init_gain": 0}, "grid.model[0].init_gain = 0"),
        ({**MLP, "init_gain": -1.0}, "grid.model[0].init_gain = -1"),
        ({**MLP, "init_gain": "big"}, "init_gain"),
        (
            {"name": "tests_support:Partly", "spare": True, "init_gain": 2},
            "the last linear layer, which has 5 outputs; 10 (the classes) are required",
        ),
    ],
)
def test_what_is_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        plan_of(choice)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_plan_names_the_gain(tmp_path: Path) -> None:
    study = tmp_path / "tiny.yaml"
    study.write_text(yaml.safe_dump(study_of({**MLP, "init_gain": 0.5})))
    shown = logit_bias("plan", str(study), cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "gain=0.5" in shown.stdout
