"""Folders of another program, written from the documented columns alone, with a planted truth.

The rows are written with pyarrow, without code of this project, as docs/design.md describes them.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.inference.summary import verdict_paragraph
from analysis.report.html import analyse_and_report

NEEDED = [
    *("schema_version", "study", "stage", "cell_id", "cohort_id", "network_id", "point", "arm"),
    *("rule", "dataset", "classes", "train_size", "model", "loss", "loss_params", "epsilon"),
    *("lr", "weight_decay", "noise_kind", "noise_rate_asked", "noise_rate_real", "seed"),
    *("noise_seed", "init_seed", "order_seed", "epochs", "status", "train_acc_noisy"),
    *("train_acc_clean", "val_acc_noisy", "val_acc_clean", "test_acc", "best_val_acc_noisy"),
    *("logit_std_init", "wall_s", "networks_in_cohort", "device", "host", "started_utc"),
    *("finished_utc", "config_sha256", "git_commit", "git_dirty", "versions"),
]
ARMS = {"tuned": 3.4, "analytic:activation": 3.03, "zero": 0.0, "ce": 0.0, "my-control": 6.0}


def response(epsilon: np.ndarray, best: float) -> np.ndarray:
    d = epsilon - best
    return 0.9 - np.where(d < 0, 0.03, 0.006) * d**2


def write_blind(folder, best: float, rng: np.random.Generator, **oddities: bool) -> float:
    """Rows of one cell; returns the true gain of tuning."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    cell = "mine/symmetric-0.4/net/mae"

    def row(stage: str, number: int, epsilon: float, seed: int, accuracy: float, arm: str | None):
        ce = arm == "ce"
        values = {
            "schema_version": 1, "study": "blind", "stage": stage,
            "cell_id": cell.replace("mae", "ce") if ce else cell,
            "cohort_id": f"{stage}-{number // 16}", "network_id": f"{stage}-{number}",
            "point": number if stage == "search" else None, "arm": arm,
            "rule": "activation" if arm and arm.startswith("analytic") else None,
            "dataset": "mine", "classes": 100, "train_size": 1000, "model": "net",
            "loss": "ce" if ce else "mae", "loss_params": "{}", "epsilon": epsilon, "lr": 0.1,
            "weight_decay": 0.0, "noise_kind": None if oddities.get("no_kind") else "symmetric",
            "noise_rate_asked": 0.4, "noise_rate_real": 0.401, "seed": seed, "noise_seed": seed,
            "init_seed": seed, "order_seed": seed, "epochs": 10, "status": "complete",
            "train_acc_noisy": 0.5, "train_acc_clean": accuracy,
            "val_acc_noisy": 0.6 * accuracy, "val_acc_clean": accuracy,
            "test_acc": accuracy if stage == "confirm" else None,
            "best_val_acc_noisy": 0.6 * accuracy, "logit_std_init": 1.0, "wall_s": 1.0,
            "networks_in_cohort": 16, "device": "cpu", "host": "here", "started_utc": now,
            "finished_utc": now, "config_sha256": "a" * 64, "git_commit": None,
            "git_dirty": None, "versions": "{}",
        }  # fmt: skip
        assert list(values) == NEEDED
        return values

    rows: dict[str, list[dict]] = {"search": [], "sweep": [], "confirm": []}
    for seed in range(4):
        shift = rng.normal(0, 0.005)
        for epsilon in np.linspace(0, 8, 11):
            accuracy = float(response(epsilon, best)) + shift + rng.normal(0, 0.003)
            rows["sweep"].append(row("sweep", len(rows["sweep"]), epsilon, seed, accuracy, None))
    for seed in range(100, 108):
        shift = rng.normal(0, 0.005)
        for arm, epsilon in ARMS.items():
            truth = 0.85 if arm == "ce" else float(response(np.float64(epsilon), best))
            accuracy = truth + shift + rng.normal(0, 0.003)
            number = len(rows["confirm"])
            rows["confirm"].append(row("confirm", number, epsilon, seed, accuracy, arm))
    for point in range(12):
        epsilon = float(rng.uniform(0, 8))
        rows["search"].append(
            row("search", point, epsilon, 0, float(response(epsilon, best)), "tuned")
        )
    for stage, stage_rows in rows.items():
        if stage == "search" and oddities.get("no_search"):
            continue
        (folder / "trials" / stage).mkdir(parents=True)
        for shard in range(2):
            table = pa.Table.from_pylist(stage_rows[shard::2])
            if oddities.get("narrow"):
                for k, field in enumerate(table.schema):
                    if pa.types.is_int64(field.type):
                        table = table.set_column(k, field.name, table[k].cast(pa.int32()))
                    if pa.types.is_string(field.type):
                        table = table.set_column(k, field.name, table[k].dictionary_encode())
            if oddities.get("extra"):
                table = table.append_column("mood", pa.array(["good"] * len(table)))
            pq.write_table(table, folder / "trials" / stage / f"part-{stage}{shard}.parquet")
    if oddities.get("study_yaml"):
        (folder / "study.yaml").write_text("name: blind\nanalysis: {margin: 0.01}\n")
    at = {arm: float(response(np.float64(e), best)) for arm, e in ARMS.items()}
    return at["tuned"] - at["analytic:activation"]


@pytest.mark.parametrize(
    "oddities",
    [
        {},
        {"narrow": True, "extra": True},
        {"no_search": True, "no_kind": True},
        {"study_yaml": True},
    ],
    ids=str,
)
def test_a_folder_from_the_documented_columns_is_read(tmp_path, oddities):
    write_blind(tmp_path, 3.2, np.random.default_rng(0), **oddities)
    verdict, path = analyse_and_report(str(tmp_path))
    (cell,) = verdict.cells
    assert cell.classes == 100
    assert cell.epsilon_analytic == {"activation": 3.03}
    assert cell.epsilon_best.low <= 3.2 <= cell.epsilon_best.high
    assert cell.procedure["activation"].over_seeds.n == 8
    assert cell.value == {}  # no arm best
    assert set(cell.controls) == {"zero", "ce", "my-control"}
    assert cell.margin == (0.01 if oddities.get("study_yaml") else 0.005)
    assert verdict_paragraph(verdict)
    assert json.loads((tmp_path / "analysis/verdict.json").read_text()) == verdict.to_json()
    assert "my-control" in Path(path).read_text()


@pytest.mark.slow
def test_hundreds_of_blind_folders(tmp_path):
    """Intervals hold the truth as often as they say, and one search never gives a verdict."""
    hits = {"best": 0, "gain": 0}
    studies = 200
    for k in range(studies):
        rng = np.random.default_rng(k)
        best = float(rng.uniform(2, 5))
        gain = write_blind(tmp_path / str(k), best, rng)
        cell = analyse_and_report(str(tmp_path / str(k)))[0].cells[0]
        interval, place = cell.procedure["activation"].over_seeds, cell.epsilon_best
        hits["gain"] += interval.low <= gain <= interval.high
        hits["best"] += place.low <= best <= place.high
        assert cell.verdict == "undecided"
    assert hits["gain"] / studies == pytest.approx(0.90, abs=0.07)  # 3.3 standard errors
    assert hits["best"] / studies > 0.91
