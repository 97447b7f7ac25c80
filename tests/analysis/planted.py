"""Study folders with a planted truth: rows as the program writes them, with made-up accuracies.

A network's accuracy is response(ε) + learning-rate penalty + seed effect + noise, so that the best
ε, the value of analytic ε and every interval's truth are known.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from analysis.data.completeness import Completeness
from analysis.inference.cell_records import CellVerdict
from analysis.inference.records import Verdict
from study.results.folder import StudyFolder
from study.results.plan_summary import CellSummary, PlanSummary, write_plan_summary
from study.results.schema import EPOCHS, SCHEMA_VERSION, TRIALS, Stage

ResponseFunction = Callable[[np.ndarray], np.ndarray]
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LOW, HIGH = 0.0, 8.0


def symmetric(best: float = 3.6, top: float = 0.93, width: float = 4.0) -> ResponseFunction:
    return lambda e: top - 0.1 * ((np.asarray(e) - best) / width) ** 2


def gaussian(best: float = 3.6, top: float = 0.93, width: float = 1.8) -> ResponseFunction:
    return lambda e: 0.1 + (top - 0.1) * np.exp(-0.5 * ((np.asarray(e) - best) / width) ** 2)


def steep_left(best: float = 2.6, top: float = 0.93, floor: float = 0.2) -> ResponseFunction:
    """x·exp(1 − x)-like: fails at 0, rises steeply, falls slowly."""
    shape = 2.0

    def f(e: np.ndarray) -> np.ndarray:
        x = np.maximum(np.asarray(e, dtype=float), 1e-9) / best
        return floor + (top - floor) * np.exp(shape * 0.5 * (np.log(x) + 1 - x))

    return f


def two_sided(best: float = 3.0, left: float = 0.03, right: float = 0.004) -> ResponseFunction:
    """Two half-parabolas: the left is steeper."""

    def f(e: np.ndarray) -> np.ndarray:
        d = np.asarray(e, dtype=float) - best
        return 0.93 - np.where(d < 0, left, right) * d**2

    return f


def flat(level: float = 0.9) -> ResponseFunction:
    return lambda e: np.full_like(np.asarray(e, dtype=float), level)


def edge(top: float = 0.93, slope: float = 0.02) -> ResponseFunction:
    """Still rising at the end of the range."""
    return lambda e: top - slope * (HIGH - np.asarray(e, dtype=float))


@dataclass
class Planted:
    """What is planted in one cell."""

    dataset: str = "digit-pairs"
    classes: int = 100
    noise_kind: str = "symmetric"
    noise_rate: float = 0.4
    model: str = "mlp-256x2"
    loss: str = "mae"
    response: ResponseFunction = field(default_factory=gaussian)
    analytic: dict[str, float] = field(default_factory=lambda: {"activation": 3.03})
    tuned: float | None = None  # default: the response's top; ε of arm `best` likewise
    search_sd: float = 0.0  # of the ε that a replicate of the search chooses, around `tuned`
    ce: float | None = 0.90

    @property
    def cell_id(self) -> str:
        noise = "clean" if self.noise_rate == 0 else f"{self.noise_kind}-{self.noise_rate:g}"
        return f"{self.dataset}/{noise}/{self.model}/{self.loss}"

    @property
    def best(self) -> float:
        grid = np.linspace(LOW, HIGH, 8001)
        return float(grid[np.argmax(self.response(grid))])

    @property
    def tuned_epsilon(self) -> float:
        return self.best if self.tuned is None else self.tuned

    def value(self, rule: str = "activation") -> float:
        """What analytic ε costs against the best ε."""
        best, analytic = self.response(np.array([self.best, self.analytic[rule]]))
        return float(best - analytic)


def cell_verdict(cell_id: str, noise_rate: float = 0.4) -> CellVerdict:
    """A judged cell without data, for tests of what is computed over cells."""
    return CellVerdict(
        cell_id=cell_id, dataset="d", noise_kind="symmetric", noise_rate=noise_rate, model="m",
        loss="mae", classes=10, epsilon_analytic={"activation": 1.0}, epsilon_tuned=None,
        epsilon_tuned_by_replicate=[], rule="activation", comparator=None, value={}, over_zero={},
        controls={}, procedure={}, recovered={}, accuracy={}, arms={}, choices={}, reference=None,
        confidence=0.9, margin=0.005, evidence=False, verdict=Verdict.UNDECIDED, reason="",
        verdicts={}, completeness=Completeness({}, 0, 0, 0, {}, ""),
    )  # fmt: skip


BEST_ARMS = ("best", "tuned", "analytic", "zero", "half", "double", "ce")


def write_study(
    folder: str | Path,
    cells: list[Planted],
    *,
    sweep_points: int = 9,
    sweep_seeds: int = 3,
    confirm_seeds: int = 5,
    search: int = 24,
    epochs: int = 4,
    sd: float = 0.003,
    seed_sd: float = 0.005,
    rng: int | np.random.Generator = 0,
    ce_in_own_cell: bool = False,
    study_yaml: bool = True,
    margin: float | None = None,
    stages: tuple[str, ...] = ("search", "sweep", "confirm"),
    arms: tuple[str, ...] = ("tuned", "analytic", "zero", "half", "double", "ce"),
    replicates: int = 4,
    replicate_seeds: int = 3,
    test_examples: int = 0,
    plan: bool = False,
) -> Path:
    """Write the folder, with one part file per stage.

    With `best` in `arms` (`BEST_ARMS`) the study has replicated searches, pooled arms, and the
    choices of each replicate. With `test_examples`, confirm rows say what each network got right;
    test accuracy is then the share of the examples. With `plan`, there is a `plan.json`.
    """
    replicated = "best" in arms
    rng = np.random.default_rng(rng)
    out = StudyFolder(str(folder))
    trials: dict[str, list[dict]] = {stage: [] for stage in stages}
    epoch_rows: dict[str, list[dict]] = {stage: [] for stage in stages}
    written_ce: set[str] = set()
    for cell in cells:
        top = float(cell.response(np.array([cell.best]))[0])
        offsets = rng.normal(0, seed_sd, 1000)

        hardness = np.random.default_rng(1).uniform(size=test_examples)  # common to all cells

        def add(
            stage, arm, rule, epsilon, lr, seed, value,
            point=None, loss=None, cell_id=None, replicate=None,
        ):  # fmt: skip
            value = float(np.clip(value, 0, 1))
            test, bits = value, None
            if stage == "confirm" and test_examples:
                # An example is right with a probability that depends on it and averages to value.
                odds = value ** (0.25 + 1.5 * hardness)  # noqa: B023
                right = rng.uniform(size=test_examples) < odds
                test, bits = float(right.mean()), np.packbits(right).tobytes()
            number = len(trials[stage])
            row = dict.fromkeys(TRIALS.names)
            row |= {
                "schema_version": SCHEMA_VERSION, "study": "planted", "stage": stage,
                "cell_id": cell_id or cell.cell_id, "cohort_id": f"{stage}-0",  # noqa: B023
                "network_id": f"{stage}-{number:06d}", "point": point, "arm": arm, "rule": rule,
                "dataset": cell.dataset, "classes": cell.classes, "train_size": 12000,  # noqa: B023
                "model": cell.model, "loss": loss or cell.loss, "loss_params": "{}",  # noqa: B023
                "epsilon": float(epsilon), "lr": lr, "weight_decay": 0.0,
                "noise_kind": cell.noise_kind, "noise_rate_asked": cell.noise_rate,  # noqa: B023
                "noise_rate_real": cell.noise_rate, "seed": seed, "noise_seed": seed,  # noqa: B023
                "init_seed": seed, "order_seed": seed, "epochs": epochs, "status": "complete",
                "train_acc_noisy": value * (1 - cell.noise_rate), "train_acc_clean": value,  # noqa: B023
                "val_acc_noisy": value * (1 - cell.noise_rate), "val_acc_clean": value,  # noqa: B023
                "test_acc": test if stage == "confirm" else None,
                "test_correct": bits, "replicate": replicate,
                "best_val_acc_noisy": value * (1 - cell.noise_rate),  # noqa: B023
                "logit_std_init": 1.0, "wall_s": 3.0, "networks_in_cohort": 16,
                "device": "cpu", "host": "planted",
                "started_utc": NOW, "finished_utc": NOW + dt.timedelta(seconds=3),
                "config_sha256": "0" * 64, "git_commit": "f" * 40, "git_dirty": False,
                "versions": json.dumps({"torch": "2.15.0"}),
            }  # fmt: skip
            trials[stage].append(row)
            for epoch in range(1, epochs + 1):
                grown = value * (1 - np.exp(-3 * epoch / epochs)) / (1 - np.exp(-3))
                e = dict.fromkeys(EPOCHS.names)
                e |= {
                    "network_id": row["network_id"], "epoch": epoch, "train_loss": 1 - grown,
                    "train_acc_noisy": grown * 0.6, "train_acc_clean": grown,
                    "val_acc_noisy": grown * 0.6, "val_acc_clean": grown,
                    "test_acc": grown if stage == "confirm" else None, "lr": lr,
                    "mean_delta": 0.1, "mean_activation": grown, "vanishing_share": 1 - grown,
                    "grad_norm": 1.0, "wall_s": 0.2,
                }  # fmt: skip
                epoch_rows[stage].append(e)

        def at(epsilon):
            return float(cell.response(np.array([epsilon]))[0])  # noqa: B023

        rule0 = next(iter(cell.analytic))
        sibling = cell.cell_id if ce_in_own_cell else cell.cell_id.rpartition("/")[0] + "/ce"
        searched = [("tuned", None, None)]
        if replicated:
            searched += [(f"analytic:{r}", r, e) for r, e in cell.analytic.items()]
        for replicate in range(replicates if replicated else 1) if "search" in stages else ():
            number = 0
            for arm, rule, fixed in searched:
                for _ in range(search // len(searched) if replicated else search):
                    epsilon, log_lr = rng.uniform(LOW, HIGH), rng.uniform(-2, 0)
                    epsilon = epsilon if fixed is None else fixed
                    value = at(epsilon) - 0.02 * (log_lr + 1) ** 2 + rng.normal(0, sd)
                    known = {"replicate": replicate} if replicated else {}
                    value += offsets[replicate] if replicated else 0.0
                    add("search", arm, rule, epsilon, 10**log_lr, replicate, value, number, **known)
                    number += 1
        if "sweep" in stages:
            grid = sorted({*np.linspace(LOW, HIGH, sweep_points), *cell.analytic.values()})
            rates = (10**-1.6, 0.1, 10**-0.4) if replicated else (0.1,)
            for seed in range(100, 100 + sweep_seeds):
                for epsilon in grid:
                    for lr in rates:
                        value = at(epsilon) + offsets[seed] + rng.normal(0, sd)
                        value -= 0.02 * (np.log10(lr) + 1) ** 2
                        add("sweep", None, None, epsilon, lr, seed, value)
        if "confirm" in stages:
            base = cell.analytic[rule0]
            fixed = {"zero": 0.0, "half": base / 2, "double": 2 * base}
            fixed |= dict.fromkeys(("tuned", "best"), cell.tuned_epsilon)
            for seed in range(200, 200 + confirm_seeds):
                for arm in arms:
                    shift = offsets[seed] + rng.normal(0, sd)
                    if arm == "analytic":
                        for rule, epsilon in cell.analytic.items():
                            value = at(epsilon) + offsets[seed] + rng.normal(0, sd)
                            add("confirm", f"analytic:{rule}", rule, epsilon, 0.1, seed, value)
                    elif arm not in ("ce", "tuned") or (arm == "tuned" and not replicated):
                        add("confirm", arm, None, fixed[arm], 0.1, seed, at(fixed[arm]) + shift)
            for replicate in range(replicates) if replicated else ():
                chosen = np.clip(cell.tuned_epsilon + rng.normal(0, cell.search_sd), LOW, HIGH)
                for seed in range(1000 * (replicate + 1), 1000 * (replicate + 1) + replicate_seeds):
                    offset = rng.normal(0, seed_sd)
                    choices = {"tuned": chosen} | {
                        f"analytic:{r}": e for r, e in cell.analytic.items()
                    }
                    for arm, epsilon in choices.items():
                        value = at(epsilon) + offset + rng.normal(0, sd)
                        rule = arm.partition(":")[2] or None
                        add("confirm", arm, rule, epsilon, 0.1, seed, value, replicate=replicate)
            if "ce" in arms and cell.ce is not None and sibling not in written_ce:
                written_ce.add(sibling)
                for seed in range(200, 200 + confirm_seeds):
                    value = cell.ce + offsets[seed] + rng.normal(0, sd)
                    loss = cell.loss if ce_in_own_cell else "ce"
                    add("confirm", "ce", None, 0.0, 0.1, seed, value, None, loss, sibling)
        assert top <= 1
    for stage in stages:
        out.write_part(stage, f"{stage}-0", trials[stage], epoch_rows[stage])
    if study_yaml:
        config: dict = {"name": "planted", "seed": 0}
        if margin is not None:
            config["analysis"] = {"margin": margin}
        out.write_bytes("study.yaml", yaml.safe_dump(config).encode())
    if plan:
        write_plan_summary(out, _plan(trials, replicates, replicate_seeds, confirm_seeds))
    return Path(folder)


def _plan(
    trials: dict[str, list[dict]], replicates: int, replicate_seeds: int, confirm_seeds: int
) -> PlanSummary:
    """The plan that these rows fulfil."""
    arms: dict[str, dict[str, bool]] = {}
    for row in trials.get("confirm", []):
        arms.setdefault(row["cell_id"], {})
        pooled = row["replicate"] is None
        arms[row["cell_id"]].setdefault(row["arm"], False)
        arms[row["cell_id"]][row["arm"]] |= pooled
    choices: dict[str, set[str]] = {}
    for row in trials.get("confirm", []):
        if row["replicate"] is not None:
            choices.setdefault(row["cell_id"], set()).add(row["arm"])
    cells = tuple(
        CellSummary(
            cell_id, 0, False, True,
            arms=tuple(arm for arm, pooled in of_cell.items() if pooled),
            replicate_arms=tuple(sorted(choices.get(cell_id, ()))),
        )
        for cell_id, of_cell in arms.items()
    )  # fmt: skip
    networks = {Stage(stage): len(rows) for stage, rows in trials.items()}
    return PlanSummary(
        "planted", "val_acc_noisy", networks, cells, replicates, confirm_seeds, replicate_seeds
    )


def change_rows(
    folder: Path,
    which: Callable[[pd.DataFrame], pd.Series],
    change: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> None:
    """Change, or without `change` delete, confirm rows of a folder."""
    (path,) = (folder / "trials/confirm").glob("*.parquet")
    frame = pq.read_table(path).to_pandas()
    chosen = which(frame)
    parts = [frame[~chosen]] + ([] if change is None else [change(frame[chosen])])
    frame = pd.concat([part for part in parts if len(part)] or [frame[:0]])
    table = pa.Table.from_pandas(frame, schema=TRIALS, preserve_index=False)
    pq.write_table(table, path)


def default_cells() -> list[Planted]:
    """Two data sets, two noise rates, one loss, as in `quickstart`."""
    digits = {"activation": 0.5}
    pairs = {"activation": 3.03}
    return [
        Planted(
            "digits", 10, "symmetric", 0.0, response=symmetric(0.6, 0.97), analytic=digits, ce=0.97
        ),
        Planted(
            "digits", 10, "symmetric", 0.4, response=symmetric(0.9, 0.93), analytic=digits, ce=0.88
        ),
        Planted(
            "digit-pairs", 100, "symmetric", 0.0, response=steep_left(4.0, 0.94), analytic=pairs
        ),
        Planted(
            "digit-pairs", 100, "symmetric", 0.4, response=steep_left(3.0, 0.89), analytic=pairs
        ),
    ]
