"""Signatures of failure: hits and false alarms on planted curves, real networks, the report."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted import NOW, Planted, write_study

from analysis.data.load import load
from analysis.exploratory.signatures import Curves, Signature, detect, signature_table
from analysis.report.html import report
from analysis.verdict import analyse
from study.results.folder import StudyFolder
from study.results.schema import SCHEMA_VERSION, TRIALS
from trainables.engine.spec import CohortSpec, DataSpec, Member, ModelSpec, Recipe
from trainables.engine.trainer import train

NETWORKS = 1000
FALL = 0.05  # of the accuracy, where one is planted


def schedules(rng: np.random.Generator, epochs: int, *, decays: bool) -> np.ndarray:
    """Cosine, steps at a half and three quarters and, without `decays`, constant."""
    x = np.arange(1, epochs + 1) / epochs
    steps = np.where(x <= 0.5, 1.0, np.where(x <= 0.75, 0.1, 0.01))
    shapes = [0.5 * (1 + np.cos(np.pi * x)), steps, np.ones(epochs)]
    return np.stack(shapes)[rng.integers(2 if decays else 3, size=NETWORKS)]


def plant(kind: str, epochs: int, rng: np.random.Generator) -> Curves:
    """Curves of networks that fail in one way, or that do not and look like it.

    2 to 1000 classes, 500 to 10,000 test examples, scatter up to 1 point between epochs.
    """

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (NETWORKS, 1))

    t = np.arange(1, epochs + 1)[None] / epochs
    lr = schedules(rng, epochs, decays=kind == "drop at decay")
    classes = rng.choice([2.0, 10.0, 100.0, 1000.0], NETWORKS)
    guessing = 1 / classes[:, None]
    learned = draw(0.2, 0.95) * (1 - np.exp(-draw(3, 30) * t))
    accuracy = guessing + (1 - guessing) * learned
    accuracy = accuracy + draw(0, 0.05) * (1 - lr) * (1 - accuracy)
    fit = -accuracy * draw(0.5, 1)
    trained = 0.6 * accuracy
    vanishing = np.clip(draw(0, 1) * np.exp(-draw(1, 20) * t) + draw(0, 0.9) * t, 0, 1)
    loss = draw(0.5, 5) * (1 - draw(0.3, 0.9) * (accuracy - guessing))
    at_chance = guessing + (1 - guessing) * draw(0, 0.03) * t

    if kind == "memorisation":
        when = draw(0.2, 0.6)
        at = np.maximum((t <= when).sum(1, keepdims=True) - 1, 0)
        late = np.clip((t - when) / (1 - when), 0, 1)
        accuracy = np.minimum(accuracy, np.take_along_axis(accuracy, at, 1)) - FALL * late
        fit, trained = fit + draw(0.3, 1) * late, trained + draw(0.05, 0.3) * late
    elif kind == "drop at decay":
        first = (lr < 0.5).argmax(1)[:, None]
        decay = np.where(lr < 0.5, (0.5 - lr) / 0.5, 0)
        held = np.minimum(accuracy, np.take_along_axis(accuracy, first - 1, 1))
        accuracy = held - FALL * decay
    elif kind == "vanishing gradients":
        accuracy, vanishing, loss = at_chance, draw(0.93, 1) + 0 * t, draw(0.5, 1) * (1 - 0.02 * t)
    elif kind == "flat loss":
        accuracy, vanishing, loss = at_chance, draw(0, 0.8) + 0 * t, draw(0.5, 5) * (1 - 0.03 * t)
    elif kind == "fits without a fall":
        fit, accuracy = fit + draw(0.1, 1) * t, accuracy - draw(0, 0.01) * t
        trained = trained + draw(0.05, 0.3) * t
    elif kind == "collapses early":  # not by wrong labels, and not at the decay
        kept = 1 - draw(0.1, 0.5) * np.clip((t - 0.1) / 0.3, 0, 1)
        accuracy = guessing + (accuracy - guessing) * kept
        fit, trained = -accuracy * draw(0.5, 1), 0.6 * accuracy
    elif kind == "starts late":
        accuracy, vanishing = np.where(t > 0.5, accuracy, guessing), np.where(t > 0.5, 0.1, 0.97)
        loss = np.where(t > 0.5, loss, loss.max(1, keepdims=True))
    else:
        assert kind == "healthy"

    examples = rng.choice([500, 2000, 10_000], (NETWORKS, 1))
    noise = draw(0.0005, 0.01) * (0.2 + 0.8 * lr) * rng.standard_normal(lr.shape)
    seen = np.round(np.clip(accuracy + noise, 0, 1) * examples) / examples
    fit = fit + 0.003 * rng.standard_normal(lr.shape)
    loss = loss * (1 + 0.001 * rng.standard_normal(lr.shape))
    return Curves(seen, loss, trained, fit, lr, vanishing, classes)


LOOK_ALIKE = ("healthy", "fits without a fall", "collapses early", "starts late")
BY_ITSELF = {  # planted → the signatures that may be named as well
    "memorisation": {Signature.DROP_AT_DECAY},
    "drop at decay": set(),
    "vanishing gradients": set(),
    "flat loss": set(),
}


@pytest.mark.parametrize("epochs", [8, 12, 30, 200])
def test_hits_and_false_alarms_on_planted_curves(epochs: int) -> None:
    """At least 90 % hits for each signature, at most 5 % false alarms for each kind of curve."""
    rng = np.random.default_rng(epochs)
    for kind in (*BY_ITSELF, *LOOK_ALIKE):
        for signature, found in detect(plant(kind, epochs, rng)).items():
            told = int(found.examined.sum())
            if signature == Signature.DROP_AT_DECAY and epochs < 12:
                assert told == 0
                continue
            share = found.shown.sum() / max(told, 1)
            if signature == kind:
                assert told == NETWORKS
                assert share >= 0.9, (kind, epochs, share)
            elif signature not in BY_ITSELF.get(kind, set()):
                assert share <= 0.05, (kind, signature, epochs, share)


def test_what_is_unknown_is_not_examined() -> None:
    curves = plant("memorisation", 30, np.random.default_rng(0))
    unknown = replace(curves, wrong_label_fit=np.full_like(curves.accuracy, np.nan))
    assert not detect(unknown)[Signature.MEMORISATION].examined.any()
    constant = replace(curves, lr=np.ones_like(curves.lr))
    assert not detect(constant)[Signature.DROP_AT_DECAY].examined.any()
    lost = curves.accuracy.copy()
    lost[0, 3] = np.nan
    for found in detect(replace(curves, accuracy=lost)).values():
        assert not found.examined[0]
        assert found.examined[1:].any()


def write_real_networks(folder: Path) -> None:
    """Train networks that fail in known ways, and write their rows."""
    noisy = {"noise_kind": "symmetric", "noise_rate": 0.4}
    members = {
        "ce": Member("confirm-ce", "ce", 0.1, **noisy),
        "zero": Member("confirm-zero", "gce", 0.1, **noisy),
        "tuned": Member("confirm-tuned", "ce", 1e-6, **noisy),
    }
    recipe = Recipe(epochs=40, batch_size=64)
    model = ModelSpec("mlp", {"width": 64, "depth": 1})
    digits = CohortSpec(DataSpec("digits"), model, recipe, [*members.values()], reads_test=True)
    mae = Member("confirm-mae", "mae", 0.3)
    triples = replace(digits, data=DataSpec("digit-triples"), recipe=Recipe(2, 256), members=[mae])
    for name, spec, arms in (("digits", digits, [*members]), ("triples", triples, ["zero"])):
        rows, epochs = [], []
        for arm, member, result in zip(arms, spec.members, train(spec), strict=True):
            row = {**dict.fromkeys(TRIALS.names), **result.metrics.to_row(), "arm": arm}
            row |= {"schema_version": SCHEMA_VERSION, "stage": "confirm", "cell_id": name}
            row |= {"network_id": member.network_id, "loss": member.loss, "model": "mlp"}
            row |= {"dataset": name, "classes": 1000 if name == "triples" else 10, "study": "s"}
            row |= {"epsilon": member.epsilon, "lr": member.lr, "noise_kind": member.noise_kind}
            row |= {"noise_rate_asked": member.noise_rate, "seed": 0, "finished_utc": NOW}
            rows.append(row)
            epochs += [epoch.to_row() for epoch in result.epochs]
        StudyFolder(str(folder)).write_part("confirm", name, rows, epochs)


def test_real_networks_that_fail(tmp_path: Path) -> None:
    write_real_networks(tmp_path)
    table = signature_table(load(str(tmp_path)))
    found = table[table["networks"] > 0]
    assert {tuple(row) for row in found[["cell_id", "arm", "signature"]].to_numpy()} == {
        ("digits", "ce", "memorisation"),
        ("digits", "tuned", "flat loss"),
        ("triples", "zero", "vanishing gradients"),
    }


def test_the_report_names_cell_arm_and_share(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [Planted()], epochs=10, stages=("confirm",))
    assert (
        "None found in the learning curves of 30 networks" in Path(report(str(folder))).read_text()
    )
    (path,) = (folder / "epochs/confirm").glob("*.parquet")
    out = StudyFolder(str(folder))
    rows = out.read("epochs", ["confirm"]).to_pylist()
    zero = load(str(folder)).stage("confirm").query("arm == 'zero'")["network_id"].tolist()[:3]
    for row in rows:
        if row["network_id"] in zero:
            row |= {"test_acc": 0.01, "vanishing_share": 0.99}
    trials = out.read("trials", ["confirm"]).to_pylist()
    path.unlink()
    out.write_part("confirm", "confirm-0", trials, rows)
    text = Path(report(str(folder))).read_text()
    assert "3 of 5 (60 %)" in text
    assert "These curves cannot tell: drop at decay." in text
    assert "Vanishing gradients: the gradient vanishes on nearly all examples" in text
    assert "Memorisation: test accuracy falls" in text.split("Signs of failure")[1]  # the rules
    verdict = json.loads((folder / "analysis/verdict.json").read_text())
    assert verdict["schema_version"] == 3
    (found,) = verdict["failure_signatures"]["found"]
    assert found == {
        "cell_id": "digit-pairs/symmetric-0.4/mlp-256x2/mae",
        "arm": "zero",
        "signature": "vanishing gradients",
        "networks": 3,
        "n": 5,
    }


def test_without_epochs_nothing_is_said(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [Planted()], stages=("confirm",))
    shutil.rmtree(folder / "epochs")
    assert analyse(str(folder)).failure_signatures is None
    assert "Signs of failure" not in Path(report(str(folder))).read_text()
