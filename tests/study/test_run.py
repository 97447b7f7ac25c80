"""A real, tiny study through Ray: what is in parquet afterwards, and what a kill leaves."""

import contextlib
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
from tests_support import TINY_STUDY

ROUNDS = int(os.environ.get("LOGIT_BIAS_ROUNDS", "3"))
PLANNED = {"search": 12, "sweep": 16, "confirm": 8}


def logit_bias(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "study.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, found before any of them is gone."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
    parents = dict(map(int, line.split()) for line in listed.splitlines())
    found, new = [], {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found += sorted(new)
    return found


def write_study(folder: Path, **changes: object) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY_STUDY, "storage": str(folder / "out"), **changes}))
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    found = logit_bias("run", str(write_study(folder)), "--tensorboard", "logs", cwd=folder)
    assert found.returncode == 0, found.stderr
    return folder


def rows(folder: Path, table: str = "trials") -> list[dict]:
    return pq.read_table(folder / "out" / "tiny" / table).to_pylist()


def test_every_planned_network_is_one_row(done: Path) -> None:
    found = rows(done)
    assert len({r["network_id"] for r in found}) == len(found) == sum(PLANNED.values())
    for stage, count in PLANNED.items():
        assert sum(r["stage"] == stage for r in found) == count
    epochs = rows(done, "epochs")
    assert sorted((e["network_id"], e["epoch"]) for e in epochs) == sorted(
        (r["network_id"], e) for r in found for e in range(1, r["epochs"] + 1)
    )


def test_only_confirm_saw_the_test_set(done: Path) -> None:
    stage_of = {r["network_id"]: r["stage"] for r in rows(done)}
    for row in rows(done):
        assert (row["test_acc"] is None) == (row["stage"] != "confirm")
    for row in rows(done, "epochs"):
        assert (row["test_acc"] is None) == (stage_of[row["network_id"]] != "confirm")


def test_confirm_arms_are_paired_on_seeds_that_no_stage_used(done: Path) -> None:
    found = rows(done)
    confirm = [r for r in found if r["stage"] == "confirm"]
    earlier = {r["seed"] for r in found if r["stage"] != "confirm"}
    by_seed: dict[int, list[dict]] = {}
    for r in confirm:
        by_seed.setdefault(r["seed"], []).append(r)
    assert not earlier & set(by_seed)
    for together in by_seed.values():
        assert sorted(r["arm"] for r in together) == ["analytic:activation", "ce", "tuned", "zero"]
        for column in (
            "noise_seed",
            "init_seed",
            "order_seed",
            "noise_rate_real",
            "logit_std_init",
        ):
            assert len({r[column] for r in together}) == 1


def test_rows_carry_their_provenance(done: Path) -> None:
    for row in rows(done):
        assert len(row["config_sha256"]) == 64
        assert json.loads(row["versions"])["torch"]
        assert row["started_utc"] <= row["finished_utc"]
        assert abs(row["noise_rate_real"] - 0.4) < 0.06
        assert row["study"] == "tiny"


def test_the_noise_as_drawn_is_in_the_folder(done: Path) -> None:
    """For every true class the shares of labels, and the rate that the confirm rows say."""
    table = pq.read_table(done / "out/tiny/noise.parquet").to_pylist()
    confirm = [r for r in rows(done) if r["stage"] == "confirm"]
    first = min(confirm, key=lambda r: r["seed"])
    assert {(t["dataset"], t["noise"]) for t in table} == {("digits", "symmetric-0.4")}
    for true, real in enumerate(first["noise_rate_per_class"]):
        shares = {t["noisy_class"]: t["share"] for t in table if t["true_class"] == true}
        assert sum(shares.values()) == pytest.approx(1)
        assert 1 - shares[true] == pytest.approx(real)
    assert {t["true_name"] for t in table} == set("0123456789")


def test_running_again_trains_nothing(done: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (done / "out").rglob("part-*")}
    found = logit_bias("run", str(done / "tiny.yaml"), cwd=done)
    assert found.returncode == 0
    assert "nothing is left to do" in found.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (done / "out").rglob("part-*")}


def test_status_and_plan_agree_with_the_rows(done: Path) -> None:
    state = json.loads(logit_bias("status", "out/tiny", "--json", cwd=done).stdout)
    assert state["networks"] == {s: {"done": n, "planned": n} for s, n in PLANNED.items()}
    assert state["done"]
    (done / "out/tiny/plan.json").unlink()
    assert json.loads(logit_bias("status", "out/tiny", "--json", cwd=done).stdout) == state
    plan = json.loads(logit_bias("plan", "tiny.yaml", "--json", cwd=done).stdout)
    assert plan["networks"] == PLANNED
    assert plan["networks_trained"] == sum(PLANNED.values())


def test_a_row_trained_again_alone_is_the_same_bit_for_bit(done: Path) -> None:
    row = next(r for r in rows(done) if r["stage"] == "confirm" and r["networks_in_cohort"] > 1)
    found = logit_bias("trial", "out/tiny", row["network_id"], "--json", cwd=done)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["compared"] > 10 + 9 * row["epochs"]


def test_a_row_that_was_changed_is_found_out(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done / "out/tiny", tmp_path / "tiny")
    path = next((tmp_path / "tiny/trials/search").glob("part-*"))
    table = pq.read_table(path)
    column = pc.add(table["val_acc_noisy"], 1e-9)
    changed = table.set_column(
        table.schema.get_field_index("val_acc_noisy"), "val_acc_noisy", column
    )
    pq.write_table(changed, path)
    found = logit_bias("trial", "tiny", table["network_id"][0].as_py(), cwd=tmp_path)
    assert found.returncode == 1
    assert "1 of " in found.stderr
    assert "val_acc_noisy" in found.stdout


def test_optuna_reads_the_exported_journal(done: Path) -> None:
    found = logit_bias("export-optuna", "out/tiny", "journal.log", cwd=done)
    assert found.returncode == 0, found.stderr
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(done / "journal.log")))
    of_network = {r["network_id"]: r for r in rows(done)}
    trials = [
        t
        for s in optuna.get_all_study_names(storage)
        for t in optuna.load_study(study_name=s, storage=storage).trials
    ]
    assert len(trials) == PLANNED["search"]
    for trial in trials:
        row = of_network[trial.user_attrs["network_id"]]
        assert trial.value == row["val_acc_noisy"]
        assert trial.params["lr"] == row["lr"]
    again = logit_bias("export-optuna", "out/tiny", "journal.log", cwd=done)
    assert again.returncode == 2


def test_verdict_and_report_come_from_the_folder(done: Path) -> None:
    found = logit_bias("report", "out/tiny", cwd=done)
    assert found.returncode == 0, found.stderr
    assert "analytic ε" in found.stdout
    verdict = json.loads((done / "out/tiny/analysis/verdict.json").read_text())
    assert verdict["cells"][0]["regret"]["activation"]["n"] == 2
    assert (done / "out/tiny/analysis/report.html").stat().st_size > 10_000


def test_another_study_may_not_use_the_folder(done: Path) -> None:
    other = write_study(done, seed=6)
    found = logit_bias("run", str(other), cwd=done)
    write_study(done)
    assert found.returncode == 2
    assert "differs in seed" in found.stderr


@pytest.mark.parametrize(
    ("number", "group"),
    [
        (signal.SIGTERM, False),
        # As a terminal's Ctrl-C does: Ray's own processes are hit too.
        pytest.param(signal.SIGINT, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.slow),
    ],
)
def test_a_stop_signal_ends_cleanly_and_keeps_what_is_trained(
    number: signal.Signals, group: bool, tmp_path: Path
) -> None:
    study = write_study(tmp_path, recipe={"epochs": 40, "batch_size": 128})
    process = subprocess.Popen(
        [sys.executable, "-m", "study.cli", "run", str(study)],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        # Python ignores SIGINT where its parent does, as shells do for background jobs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and not list(tmp_path.glob("out/tiny/trials/*/part-*")):
        time.sleep(0.1)
    (os.killpg if group else os.kill)(process.pid, number)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 130, shown
    assert "Traceback" not in shown
    assert "***" not in shown
    assert shown.strip().splitlines()[-1].endswith("run the same command to go on")
    assert rows(tmp_path)
    assert len(rows(tmp_path)) < sum(PLANNED.values())


LONG = {
    "recipe": {"epochs": 400, "batch_size": 128},
    "search": {**TINY_STUDY["search"], "networks_per_cell": 2},
    "sweep": None,
    "confirm": None,
    "resources": {"workers": 1},
}


def test_a_stopped_cohort_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGTERM in the middle of training; the end is that of undisturbed training, bit for bit."""
    study = write_study(tmp_path, **LONG)
    process = subprocess.Popen(
        [sys.executable, "-m", "study.cli", "run", str(study)], stderr=subprocess.PIPE, text=True
    )
    folder = tmp_path / "out/tiny"
    while process.poll() is None and not list(folder.glob("trials/search/part-*")):
        time.sleep(0.05)
    time.sleep(0.3)  # into the next cohort
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 130, shown
    assert "1 cohorts kept in the middle" in shown
    (kept,) = folder.glob("checkpoints/*.pt")
    assert 0 < torch.load(kept, weights_only=True)["running"]["epoch"] < 400
    found = logit_bias("run", str(study), cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert not list(folder.glob("checkpoints/*"))
    mine = [r for r in rows(tmp_path) if r["cohort_id"] == kept.stem]
    for row in mine:  # it did go on: its clock counts both runs
        assert row["wall_s"] > (row["finished_utc"] - row["started_utc"]).total_seconds()
    again = logit_bias("trial", "out/tiny", mine[0]["network_id"], cwd=tmp_path)
    assert again.returncode == 0, again.stdout


def test_learning_curves_for_tensorboard(done: Path) -> None:
    written = {path.parent.name: path for path in (done / "logs").rglob("*tfevents*")}
    assert set(written) == {r["network_id"] for r in rows(done)}
    row = next(r for r in rows(done) if r["stage"] == "search")
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
    ("changes", "wanted"),
    [
        ({"serach": {}}, "serach: unknown key"),
        ({"grid": {**TINY_STUDY["grid"], "loss": ["maee"]}}, "grid.loss[0]"),
    ],
)
def test_bad_study_is_one_line_exit_2_and_nothing_written(
    tmp_path: Path, changes: dict, wanted: str
) -> None:
    found = logit_bias("run", str(write_study(tmp_path, **changes)), cwd=tmp_path)
    assert found.returncode == 2
    assert wanted in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_killed_at_a_random_moment_nothing_is_lost_or_doubled(
    attempt: int, done: Path, tmp_path: Path
) -> None:
    """SIGKILL for driver and workers, wherever they are; then the same command again."""
    study = write_study(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "study.cli", "run", str(study)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    time.sleep(random.Random(attempt).uniform(8, 20))
    for pid in [*descendants(process.pid), process.pid]:  # workers and Ray's daemons, too
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    saved = (
        {r["network_id"] for r in rows(tmp_path)}
        if (tmp_path / "out/tiny/trials").exists()
        else set()
    )
    found = logit_bias("run", str(study), cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    ids = [r["network_id"] for r in rows(tmp_path)]
    assert len(ids) == len(set(ids))
    assert saved <= set(ids)
    assert set(ids) == {r["network_id"] for r in rows(done)}
