"""A real, tiny study with replicates and the arm `best`, through Ray."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from filelock import FileLock
from tests_support import BEST_STUDY, logit_bias

pytestmark = pytest.mark.integration
PLANNED = {"search": 24, "sweep": 20, "confirm": 24}
REPLICATED = ["analytic:activation", "tuned"]
POOLED = ["analytic:activation", "best", "ce", "double", "rescale", "zero"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with best.yaml and the finished study out/best."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "replicates"
    with FileLock(f"{folder}.lock"):
        if not (folder / "best.yaml").exists():
            folder.mkdir(exist_ok=True)
            study = folder / "unfinished.yaml"
            study.write_text(yaml.safe_dump({**BEST_STUDY, "storage": str(folder / "out")}))
            command = [sys.executable, "-m", "study.cli", "run", str(study)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
            study.rename(folder / "best.yaml")
    return folder


@pytest.fixture(scope="module")
def trials(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "out/best/trials").to_pylist()


def test_every_planned_network_has_one_row(folder: Path, trials: list[dict[str, Any]]) -> None:
    assert len({r["network_id"] for r in trials}) == len(trials) == sum(PLANNED.values())
    for stage, count in PLANNED.items():
        assert sum(r["stage"] == stage for r in trials) == count
    state = json.loads(logit_bias("status", str(folder / "out/best"), "--json").stdout)
    assert state["networks"] == {s: {"done": n, "planned": n} for s, n in PLANNED.items()}
    assert sorted((c["searched"], c["budget"]) for c in state["cells"]) == [(6, 6), (18, 18)]
    plan = json.loads(logit_bias("plan", str(folder / "best.yaml"), "--json").stdout)
    assert (plan["networks"], plan["replicates"]) == (PLANNED, 2)
    assert "2 replicates" in logit_bias("plan", str(folder / "best.yaml")).stdout
    summary = json.loads((folder / "out/best/plan.json").read_text())
    assert (summary["replicates"], summary["confirm_seeds"], summary["replicate_seeds"]) == (
        2,
        2,
        3,
    )
    assert sorted(summary["cells"][0]["arms"]) == sorted(set(POOLED) - {"ce"})
    assert sorted(summary["cells"][0]["replicate_arms"]) == REPLICATED


def test_networks_of_one_seed_share_their_draws_and_no_seed_serves_two_purposes(
    trials: list[dict[str, Any]],
) -> None:
    purposes: dict[int, set[Any]] = {}
    paired: dict[int, list[dict[str, Any]]] = {}
    for r in trials:
        purposes.setdefault(r["seed"], set()).add((r["stage"], r["replicate"]))
        paired.setdefault(r["seed"], []).append(r)
    assert set(map(len, purposes.values())) == {1}
    for seed, rows in paired.items():
        for column in ("noise_seed", "init_seed", "order_seed", "noise_rate_real"):
            assert len({r[column] for r in rows}) == 1
        if rows[0]["stage"] == "confirm":
            pooled = rows[0]["replicate"] is None
            assert sorted(r["arm"] for r in rows) == (POOLED if pooled else REPLICATED), seed
    assert len({rows[0]["noise_seed"] for rows in paired.values()}) == len(paired)


def test_the_test_set_is_read_only_in_confirm(trials: list[dict[str, Any]]) -> None:
    for r in trials:
        assert (r["test_acc"] is None) == (r["stage"] != "confirm")
        assert (r["test_correct"] is None) == (r["stage"] != "confirm" or r["status"] == "diverged")
        if r["test_correct"] is not None:
            bits = np.unpackbits(np.frombuffer(r["test_correct"], np.uint8))
            examples = round(bits.sum() / r["test_acc"])
            assert bits[:examples].sum() / examples == r["test_acc"]
            assert len(r["test_correct"]) == -(-examples // 8)


def test_running_again_trains_nothing(folder: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.parquet")}
    result = logit_bias("run", str(folder / "best.yaml"))
    assert result.returncode == 0
    assert "nothing is left to do" in result.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.parquet")}


def test_confirm_alone_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    study = tmp_path / "other.yaml"
    study.write_text(yaml.safe_dump({**BEST_STUDY, "storage": str(tmp_path)}))
    result = logit_bias("run", str(study), "--stage", "confirm")
    assert result.returncode == 2
    assert "the search and the sweep are not finished; add --stage search --stage sweep" in (
        result.stderr
    )


@pytest.mark.parametrize("replicate", [None, 1])
def test_a_confirmed_network_trained_again_alone_is_the_same_bit_for_bit(
    folder: Path, trials: list[dict[str, Any]], replicate: int | None
) -> None:
    row = next(r for r in trials if r["stage"] == "confirm" and r["replicate"] == replicate)
    result = logit_bias("trial", str(folder / "out/best"), row["network_id"], "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["differences"] == []


def test_changed_answers_do_not_reproduce(folder: Path, tmp_path: Path) -> None:
    """`trial` also compares the answers to single test examples."""
    copy = shutil.copytree(folder / "out/best", tmp_path / "best")
    path = next((copy / "trials/confirm").glob("part-*"))
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0]["test_correct"] = bytes(len(rows[0]["test_correct"]))
    pq.write_table(table.from_pylist(rows, schema=table.schema), path)
    result = logit_bias("trial", str(copy), rows[0]["network_id"])
    assert result.returncode == 1
    assert "1 of " in result.stderr
    assert "test_correct" in result.stdout


def test_every_search_is_exported_to_optuna(folder: Path, tmp_path: Path) -> None:
    result = logit_bias("export-optuna", str(folder / "out/best"), str(tmp_path / "journal.log"))
    assert result.returncode == 0, result.stderr
    assert f"8 Optuna studies, {PLANNED['search']} trials" in result.stdout


def test_value_and_procedure_come_from_the_folder(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder / "out/best", tmp_path / "best")
    result = logit_bias("analyse", str(copy))
    assert result.returncode == 0, result.stderr
    cell = json.loads((copy / "analysis/verdict.json").read_text())["cells"][0]
    assert cell["value"]["activation"]["n"] == 2
    replicates = cell["procedure"]["activation"]["replicates"]
    assert [(r["replicate"], r["seeds"]) for r in replicates] == [(0, 3), (1, 3)]
