"""A real, tiny study through Ray: its tables, its commands, and what a stop or a kill leaves."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from optuna.storages.journal import JournalFileBackend
from tensorboardX.proto import event_pb2
from tests_support import TINY_STUDY, logit_bias

pytestmark = pytest.mark.integration
ROUNDS = int(os.environ.get("LOGIT_BIAS_ROUNDS", "3"))
PLANNED = {"search": 12, "sweep": 16, "confirm": 8}
LONG = {
    "recipe": {"epochs": 400, "batch_size": 128},
    "search": {**TINY_STUDY["search"], "networks_per_cell": 2},
    "sweep": None,
    "confirm": None,
    "resources": {"workers": 1},
}


def run_in_a_process(study: Path) -> None:
    command = [sys.executable, "-m", "study.cli", "run", str(study)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr


def start(study: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "study.cli", "run", str(study)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # Python ignores SIGINT if its parent does, as shells do for background jobs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def write_study(folder: Path, **changes: object) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY_STUDY, "storage": str(folder / "out"), **changes}))
    return path


def rows(folder: Path, table: str = "trials") -> list[dict]:
    return pq.read_table(folder / "out" / "tiny" / table).to_pylist()


def wait_for(pattern: str, folder: Path, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not list(folder.glob(pattern)):
        time.sleep(0.05)


def assert_stopped(process: subprocess.Popen[str]) -> str:
    """Wait for a regular end after a stop signal; the result is standard error."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "***" not in errors
    assert errors.strip().splitlines()[-1].endswith("run the same command to go on")
    return errors


@pytest.fixture
def study_copy(finished_study: Path, tmp_path: Path) -> Path:
    """A copy of the finished study's folder, to be changed."""
    return shutil.copytree(finished_study / "out/tiny", tmp_path / "tiny")


def test_every_planned_network_has_one_row(finished_study: Path) -> None:
    trials = rows(finished_study)
    assert len({r["network_id"] for r in trials}) == len(trials) == sum(PLANNED.values())
    for stage, count in PLANNED.items():
        assert sum(r["stage"] == stage for r in trials) == count
    epochs = rows(finished_study, "epochs")
    assert sorted((e["network_id"], e["epoch"]) for e in epochs) == sorted(
        (r["network_id"], e) for r in trials for e in range(1, r["epochs"] + 1)
    )


def test_only_confirm_reads_the_test_set(finished_study: Path) -> None:
    stage_of = {r["network_id"]: r["stage"] for r in rows(finished_study)}
    for row in rows(finished_study):
        assert (row["test_acc"] is None) == (row["stage"] != "confirm")
    for row in rows(finished_study, "epochs"):
        assert (row["test_acc"] is None) == (stage_of[row["network_id"]] != "confirm")


def test_confirm_arms_are_paired_on_seeds_of_no_other_stage(finished_study: Path) -> None:
    trials = rows(finished_study)
    confirm = [r for r in trials if r["stage"] == "confirm"]
    earlier = {r["seed"] for r in trials if r["stage"] != "confirm"}
    by_seed: dict[int, list[dict]] = {}
    for r in confirm:
        by_seed.setdefault(r["seed"], []).append(r)
    assert not earlier & set(by_seed)
    same = ("noise_seed", "init_seed", "order_seed", "noise_rate_real", "logit_std_init")
    for paired in by_seed.values():
        assert sorted(r["arm"] for r in paired) == ["analytic:activation", "ce", "tuned", "zero"]
        for column in same:
            assert len({r[column] for r in paired}) == 1


def test_rows_carry_their_provenance(finished_study: Path) -> None:
    for row in rows(finished_study):
        assert len(row["config_sha256"]) == 64
        assert json.loads(row["versions"])["torch"]
        assert row["started_utc"] <= row["finished_utc"]
        assert abs(row["noise_rate_real"] - 0.4) < 0.06
        assert row["study"] == "tiny"


def test_the_noise_record_agrees_with_the_confirm_rows(finished_study: Path) -> None:
    """For every true class: the shares of all labels, and the rate of wrong ones."""
    table = pq.read_table(finished_study / "out/tiny/noise.parquet").to_pylist()
    confirm = [r for r in rows(finished_study) if r["stage"] == "confirm"]
    first = min(confirm, key=lambda r: r["seed"])
    assert {(t["dataset"], t["noise"]) for t in table} == {("digits", "symmetric-0.4")}
    for true, wrong in enumerate(first["noise_rate_per_class"]):
        shares = {t["noisy_class"]: t["share"] for t in table if t["true_class"] == true}
        assert sum(shares.values()) == pytest.approx(1)
        assert 1 - shares[true] == pytest.approx(wrong)
    assert {t["true_name"] for t in table} == set("0123456789")


def test_running_again_trains_nothing(finished_study: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (finished_study / "out").rglob("*.parquet")}
    result = logit_bias("run", str(finished_study / "tiny.yaml"))
    assert result.returncode == 0
    assert "nothing is left to do" in result.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (finished_study / "out").rglob("*.parquet")}


def test_status_and_plan_agree_with_the_rows(finished_study: Path, study_copy: Path) -> None:
    state = json.loads(logit_bias("status", str(study_copy), "--json").stdout)
    assert state["networks"] == {s: {"done": n, "planned": n} for s, n in PLANNED.items()}
    assert state["done"]
    (study_copy / "plan.json").unlink()
    assert json.loads(logit_bias("status", str(study_copy), "--json").stdout) == state
    plan = json.loads(logit_bias("plan", str(finished_study / "tiny.yaml"), "--json").stdout)
    assert plan["networks"] == PLANNED
    assert plan["networks_trained"] == sum(PLANNED.values())


def test_a_network_trained_again_alone_is_the_same_bit_for_bit(finished_study: Path) -> None:
    row = next(
        r for r in rows(finished_study) if r["stage"] == "confirm" and r["networks_in_cohort"] > 1
    )
    result = logit_bias("trial", str(finished_study / "out/tiny"), row["network_id"], "--json")
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    assert set(content) == {"network_id", "device", "device_of_row", "compared", "differences"}
    assert content["compared"] > 10 + 9 * row["epochs"]
    assert content["differences"] == []


def test_a_changed_row_does_not_reproduce(study_copy: Path) -> None:
    path = next((study_copy / "trials/search").glob("part-*"))
    table = pq.read_table(path)
    column = pc.add(table["val_acc_noisy"], 1e-9)
    index = table.schema.get_field_index("val_acc_noisy")
    pq.write_table(table.set_column(index, "val_acc_noisy", column), path)
    result = logit_bias("trial", str(study_copy), table["network_id"][0].as_py())
    assert result.returncode == 1
    assert "1 of " in result.stderr
    assert "val_acc_noisy" in result.stdout


def test_optuna_reads_the_exported_journal(finished_study: Path, tmp_path: Path) -> None:
    arguments = ["export-optuna", str(finished_study / "out/tiny"), str(tmp_path / "journal.log")]
    result = logit_bias(*arguments)
    assert result.returncode == 0, result.stderr
    storage = optuna.storages.JournalStorage(JournalFileBackend(arguments[-1]))
    row_of = {r["network_id"]: r for r in rows(finished_study)}
    trials = [
        t
        for s in optuna.get_all_study_names(storage)
        for t in optuna.load_study(study_name=s, storage=storage).trials
    ]
    assert len(trials) == PLANNED["search"]
    for trial in trials:
        row = row_of[trial.user_attrs["network_id"]]
        assert trial.value == row["val_acc_noisy"]
        assert trial.params["lr"] == row["lr"]
    second = logit_bias(*arguments)
    assert second.returncode == 2
    assert "exists; choose another name" in second.stderr


def test_verdict_and_report_come_from_the_folder(study_copy: Path) -> None:
    result = logit_bias("report", str(study_copy))
    assert result.returncode == 0, result.stderr
    assert "analytic ε" in result.stdout
    verdict = json.loads((study_copy / "analysis/verdict.json").read_text())
    (replicate,) = verdict["cells"][0]["procedure"]["activation"]["replicates"]
    assert replicate["seeds"] == 2
    assert (study_copy / "analysis/report.html").stat().st_size > 10_000


def test_another_study_may_not_use_the_folder(finished_study: Path, tmp_path: Path) -> None:
    other = write_study(tmp_path, storage=str(finished_study / "out"), seed=6)
    result = logit_bias("run", str(other))
    assert result.returncode == 2
    assert "seed (was 5, is 6)" in result.stderr


@pytest.mark.slow
def test_a_finished_study_grows_in_its_folder(finished_study: Path, tmp_path: Path) -> None:
    """A noise rate, search networks and confirm seeds more; then back to the first file."""
    shutil.copytree(finished_study / "out", tmp_path / "out")
    before = {r["network_id"]: r for r in rows(tmp_path)}
    first = write_study(tmp_path).rename(tmp_path / "first.yaml")
    kept = logit_bias("plan", str(first), "--json")
    assert json.loads(kept.stdout)["growth"] is None
    more = write_study(
        tmp_path,
        grid={
            **TINY_STUDY["grid"],
            "noise": [{"kind": "symmetric", "rate": 0.4}, {"kind": "symmetric", "rate": 0.2}],
        },
        search={**TINY_STUDY["search"], "networks_per_cell": 7},
        confirm={**TINY_STUDY["confirm"], "seeds": 3},
        analysis={"margin": 0.02},
    )
    planned = json.loads(logit_bias("plan", str(more), "--json").stdout)
    assert planned["growth"]["kept"] == PLANNED
    assert planned["growth"]["new"] == {"search": 44, "sweep": 16, "confirm": 16}
    run_in_a_process(more)
    after = {r["network_id"]: r for r in rows(tmp_path)}
    assert all(after[i] == row for i, row in before.items())
    files = {
        hashlib.sha256(file.read_bytes()).hexdigest()
        for file in (tmp_path / "out/tiny").rglob("*.yaml")
    }
    assert {r["config_sha256"] for r in after.values()} == files
    noise = pq.read_table(tmp_path / "out/tiny/noise.parquet")
    assert set(noise["noise"].to_pylist()) == {"symmetric-0.4", "symmetric-0.2"}
    old = pq.read_table(finished_study / "out/tiny/noise.parquet")
    assert noise.slice(0, old.num_rows).equals(old)
    state = json.loads(logit_bias("status", str(tmp_path / "out/tiny"), "--json").stdout)
    assert all(n["done"] == n["planned"] for n in state["networks"].values())
    assert logit_bias("analyse", str(tmp_path / "out/tiny")).returncode == 0
    verdict = json.loads((tmp_path / "out/tiny/analysis/verdict.json").read_text())
    assert verdict["pooled"]["margin"] == 0.02
    assert verdict["pooled"]["completeness"]["sentence"] == ""
    refused = logit_bias("run", str(first))
    assert refused.returncode == 2
    assert "grid.noise (was symmetric-0.2, is absent" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_keeps_trained_networks(
    number: signal.Signals, tmp_path: Path
) -> None:
    """As a terminal's Ctrl-C does, which reaches Ray's own processes too."""
    process = start(write_study(tmp_path, recipe={"epochs": 40, "batch_size": 128}))
    wait_for("out/tiny/trials/*/part-*", tmp_path, process)
    os.killpg(process.pid, number)
    assert_stopped(process)
    assert 0 < len(rows(tmp_path)) < sum(PLANNED.values())


def test_a_stopped_cohort_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    """SIGTERM during training; the result is that of undisturbed training, bit for bit."""
    study = write_study(tmp_path, **LONG)
    process = start(study)
    wait_for("out/tiny/trials/search/part-*", tmp_path, process)
    time.sleep(0.3)  # into the next cohort
    process.send_signal(signal.SIGTERM)
    assert "1 unfinished cohorts saved" in assert_stopped(process)
    assert rows(tmp_path)
    folder = tmp_path / "out/tiny"
    (checkpoint,) = folder.glob("checkpoints/*.pt")
    assert 0 < torch.load(checkpoint, weights_only=True)["running"]["epoch"] < 400
    run_in_a_process(study)
    assert not list(folder.glob("checkpoints/*"))
    resumed = [r for r in rows(tmp_path) if r["cohort_id"] == checkpoint.stem]
    for row in resumed:  # it did not start again: its training time covers both runs
        assert row["wall_s"] > (row["finished_utc"] - row["started_utc"]).total_seconds()
    reproduced = logit_bias("trial", str(folder), resumed[0]["network_id"])
    assert reproduced.returncode == 0, reproduced.stdout


def test_learning_curves_for_tensorboard(finished_study: Path) -> None:
    written = {path.parent.name: path for path in (finished_study / "logs").rglob("*tfevents*")}
    assert set(written) == {r["network_id"] for r in rows(finished_study)}
    row = next(r for r in rows(finished_study) if r["stage"] == "search")
    last = {}
    for event in events(written[row["network_id"]]):
        last |= {v.tag: (event.step, v.simple_value) for v in event.summary.value}
    assert last["val_acc_noisy"] == (row["epochs"], pytest.approx(row["val_acc_noisy"]))
    assert "test_acc" not in last


def events(path: Path) -> Iterator[event_pb2.Event]:
    """The records of a TensorBoard file: length, its checksum, content, its checksum."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield event_pb2.Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serach": {}}, "serach: unknown key"),
        ({"grid": {**TINY_STUDY["grid"], "loss": ["maee"]}}, "grid.loss[0]"),
    ],
)
def test_a_bad_study_file_is_one_line_exit_2_and_nothing_is_written(
    tmp_path: Path, changes: dict, message: str
) -> None:
    result = logit_bias("run", str(write_study(tmp_path, **changes)))
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_after_a_kill_no_row_is_lost_or_doubled(
    attempt: int, finished_study: Path, tmp_path: Path
) -> None:
    """SIGKILL for driver and workers at a random moment; then the same command again."""
    study = write_study(tmp_path)
    process = start(study)
    time.sleep(random.Random(attempt).uniform(8, 20))
    for pid in [*descendants(process.pid), process.pid]:  # workers and Ray's daemons, too
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    has_rows = (tmp_path / "out/tiny/trials").exists()
    saved = {r["network_id"] for r in rows(tmp_path)} if has_rows else set()
    run_in_a_process(study)
    ids = [r["network_id"] for r in rows(tmp_path)]
    assert len(ids) == len(set(ids))
    assert saved <= set(ids)
    assert set(ids) == {r["network_id"] for r in rows(finished_study)}


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, listed before any of them ends."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
    parents = dict(map(int, line.split()) for line in listed.splitlines())
    below: list[int] = []
    generation = {pid}
    while generation:
        generation = {child for child, parent in parents.items() if parent in generation}
        below += sorted(generation)
    return below
