"""`trial --explain` says which epoch and quantity went wrong first."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests_support import logit_bias

from study.results.explain import explain
from study.results.folder import StudyFolder
from study.results.schema import EPOCHS, SCHEMA_VERSION, TRIALS
from trainables.engine.spec import CohortSpec, DataSpec, Member, ModelSpec, Recipe
from trainables.engine.trainer import train

RECIPE = Recipe(epochs=6, batch_size=128, schedule="constant")


def member(name: str, **settings: Any) -> Member:
    seeds = {"noise_seed": 1, "init_seed": 2, "order_seed": 3}
    noise = {"noise_kind": "symmetric", "noise_rate": 0.4}
    return Member(
        network_id=f"sweep-{name}", **{"loss": "ce", "lr": 0.1, **noise, **seeds, **settings}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A cohort with a network that overflows, one that stands still and one that learns."""
    members = [
        member("fine"),
        member("wild", lr=1e4),
        member("stuck", lr=1e-7),
    ]
    spec = CohortSpec(
        data=DataSpec("digits", None, None, {}),
        model=ModelSpec("mlp", {"width": 8, "depth": 1}, "glorot_uniform"),
        recipe=RECIPE,
        members=members,
        reads_test=False,
    )
    results = train(spec)
    trials = [
        {
            **dict.fromkeys(TRIALS.names),
            **result.metrics.to_row(),
            **{"schema_version": SCHEMA_VERSION, "stage": "sweep", "cell_id": "cell"},
            **{"network_id": m.network_id, "cohort_id": "sweep-0", "loss": "ce", "lr": m.lr},
            **{"epsilon": 0.0, "seed": 1000},
        }
        for m, result in zip(members, results, strict=True)
    ]
    epochs = [epoch.to_row() for result in results for epoch in result.epochs]
    target = StudyFolder(str(tmp_path_factory.mktemp("explained") / "study"))
    target.write_part("sweep", "sweep-0", trials, epochs)
    target.write_bytes("study.yaml", b"name: study\n")
    return target


def test_a_network_that_overflows(folder: StudyFolder) -> None:
    explanation = explain(folder, "sweep-wild")
    epochs = folder.read("epochs").to_pylist()
    wild = [e for e in epochs if e["network_id"] == "sweep-wild"]
    assert explanation.status == "diverged"
    # By hand: the first epoch whose accuracies are those of guessing.
    first = min(e["epoch"] for e in wild if e["train_acc_noisy"] == 0.1)
    assert explanation.epoch == first
    assert f"it diverged in epoch {first}" in explanation.sentences[0]
    assert (
        "0 of 0 with learning rate 1e+04 or more and 0 of 2 with a smaller one"
        in (explanation.sentences[1])
    )
    assert "the largest that did not is 0.1" in explanation.sentences[1]
    assert explanation.cohort == {"complete": 2}
    assert "2 of the 2 others in its cohort did not diverge" in explanation.sentences[-1]


def test_a_network_that_stands_still_and_one_that_learns(folder: StudyFolder) -> None:
    stuck = explain(folder, "sweep-stuck")
    assert (stuck.status, stuck.epoch) == ("complete", 1)
    assert "did not diverge and learned nothing" in stuck.sentences[0]
    fine = explain(folder, "sweep-fine")
    assert (fine.status, fine.epoch, fine.quantity) == ("complete", None, None)
    assert [e["epoch"] for e in fine.epochs] == [1, 2, 5, 6]


def broken_loss(epoch: dict[str, Any]) -> dict[str, Any]:
    guessing = dict.fromkeys(["train_acc_noisy", "val_acc_noisy"], 0.1)
    return {**epoch, **guessing, "train_loss": None, "grad_norm": None}


def broken_gradient(epoch: dict[str, Any]) -> dict[str, Any]:
    return {**epoch, "grad_norm": None}


@pytest.mark.parametrize(
    ("changes", "epoch", "quantity"),
    [
        ({4: broken_loss, 5: broken_loss, 6: broken_loss}, 4, "train_loss"),
        (
            {3: broken_gradient, 4: broken_loss, 5: broken_loss, 6: broken_loss},
            4,
            "grad_norm",
        ),
    ],
)
def test_the_first_quantity_is_named(
    folder: StudyFolder,
    tmp_path: Path,
    changes: dict[int, Callable[[dict[str, Any]], dict[str, Any]]],
    epoch: int,
    quantity: str,
) -> None:
    rows = folder.read("epochs").to_pylist()
    own = [r for r in rows if r["network_id"] == "sweep-fine"]
    own = [changes[r["epoch"]](r) if r["epoch"] in changes else r for r in own]
    trial = {**folder.read("trials").to_pylist()[0], "status": "diverged"}
    target = StudyFolder(str(tmp_path / "study"))
    target.write_part("sweep", "sweep-0", [trial], pa.Table.from_pylist(own, EPOCHS).to_pylist())
    target.write_bytes("study.yaml", b"name: study\n")
    explanation = explain(target, trial["network_id"])
    assert (explanation.epoch, explanation.quantity) == (epoch, quantity)
    assert explanation.sentences[-1] == "it trained alone"


def test_the_command(folder: StudyFolder) -> None:
    outcome = logit_bias("trial", folder.uri, "sweep-wild", "--explain")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.startswith("sweep-wild: diverged; stage sweep, cell_id cell")
    assert "grad_norm" in outcome.stdout
    content = json.loads(
        logit_bias("trial", folder.uri, "sweep-wild", "--explain", "--json").stdout
    )
    assert content["status"] == "diverged"
    absent = logit_bias("trial", folder.uri, "sweep-nothing", "--explain")
    assert (absent.returncode, "no network sweep-nothing" in absent.stderr) == (2, True)
