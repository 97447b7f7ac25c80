"""How often a verdict is right: planted response surfaces, without training.

    python benchmarks/operating_characteristics.py [--studies 300] [--cells 1] [--replicates 4] …

A surface gives every network its accuracy. The program's own scheduler and searches propose the
networks, its chooser places the pooled arms, its writer makes the study folder (with what each
network gets right on every test example), and its analysis judges the folder. The truth is known:

- `cost`: analytic ε costs `--cost` points against the best ε, both at their best learning rate. The
  collapse on the low side of ε has the shape of a normal or logistic distribution function or of a
  ramp, at several widths; analytic ε lies on the side that falls slowly, or on the collapse.
- `flat`: ε has no effect.
- `worse`: accuracy falls from ε = 0 on, and analytic ε costs 5 points.
- `unequal`: as `cost`, but in every cell a quarter of the common confirm seeds is lost, each cell's
  own quarter.

The table has, for each scenario, width of the collapse and standard deviation of one network: how
often the verdict agrees (non-inferior or equivalent), how often the 90 % intervals hold the cost
and the mean gain over searches, and how often `logit-bias power` expects the verdict non-inferior.
Writes benchmarks/results/operating-characteristics-<date>.json.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow.parquet as pq
import yaml
from planted_surfaces import TOP, Scenario, Surface

from analysis.inference.design import pilot_of
from analysis.inference.records import Verdict
from analysis.inference.study_records import StudyVerdict
from analysis.response.surface import choose_points
from analysis.verdict import compute
from study.config.loader import parse_study
from study.config.sections import StudyConfig
from study.planning.cells import Cell, Network
from study.planning.cohort_specs import identity_columns
from study.planning.open_study import plan_summary
from study.planning.plan import make_plan
from study.planning.scheduler import Scheduler
from study.results.arms import TUNED
from study.results.folder import StudyFolder
from study.results.plan_summary import write_plan_summary
from study.results.schema import EPOCHS, SCHEMA_VERSION, TRIALS, Stage, Status

RULE = "activation"
SEED_SD = 1.0  # points: effect of a seed that all networks of the seed share
EPOCHS_TRAINED = 8
AMBIGUITY = 0.005  # of test examples: width of the zone in which networks differ at random
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Design:
    """Sizes of a study."""

    networks: int
    replicates: int
    seeds: int
    replicate_seeds: int
    sweep_points: int
    sweep_seeds: int
    lr_points: int
    test_examples: int
    margin: float

    def study_file(self, cells: int, seed: int, folder: str) -> bytes:
        """A study of MAE on 100 classes; the cells differ in nothing but their names."""
        rates = [round(0.05 * i, 2) for i in range(cells)]
        content = {
            "name": "planted",
            "seed": seed,
            "storage": folder,
            "grid": {
                "dataset": ["digit-pairs"],
                "noise": [{"kind": "symmetric", "rate": rate} for rate in rates],
                "model": [{"name": "mlp", "width": 16}],
                "loss": ["mae"],
            },
            "recipe": {"epochs": EPOCHS_TRAINED, "batch_size": 128},
            "search": {
                "networks_per_cell": self.networks,
                "replicates": self.replicates,
                "epsilon": {"low": 0.0, "high": 8.0},
                "lr": {"low": 0.05, "high": 2.0, "log": True},
            },
            "sweep": {
                "points": self.sweep_points,
                "seeds": self.sweep_seeds,
                "lr_points": self.lr_points,
            },
            "confirm": {
                "seeds": self.seeds,
                "replicate_seeds": self.replicate_seeds,
                "arms": ["best", TUNED, f"analytic:{RULE}", "zero"],
            },
            "analysis": {"margin": self.margin},
        }
        return yaml.safe_dump(content).encode()


class Training:
    """Makes the rows of networks from surfaces instead of training them."""

    def __init__(
        self, config: StudyConfig, surfaces: Mapping[Cell, Surface], sd: float, design: Design
    ) -> None:
        self._config, self._surfaces, self._sd = config, surfaces, sd
        self._rng = np.random.default_rng([config.seed, 1])
        self._difficulty = self._rng.uniform(size=design.test_examples)
        self._seed_effects: dict[tuple[str, int], float] = {}

    def expected(self, network: Network) -> float:
        """Expected accuracy of a network, points."""
        lr = self._config.search.lr
        rate = np.log(network.lr / lr.low) / np.log(lr.high / lr.low)
        return float(self._surfaces[network.cell].accuracy(network.epsilon, rate))

    def row(self, network: Network, cohort_id: str) -> dict[str, Any]:
        """The row of a network."""
        expected = self.expected(network)
        key = (network.cell.cell_id, network.seed)
        effect = self._seed_effects.setdefault(key, self._rng.normal(0, SEED_SD))
        # A network that is far from the top varies more.
        sd = self._sd * (1 + 0.3 * np.clip((TOP - expected) / 10, 0, 5))
        accuracy = float(np.clip(expected + effect + self._rng.normal(0, sd), 1, 99.5)) / 100
        test, bits = None, None
        if network.stage == Stage.CONFIRM:
            blur = AMBIGUITY * self._rng.standard_normal(len(self._difficulty))
            right = self._difficulty + blur < accuracy
            test, bits = float(right.mean()), np.packbits(right).tobytes()
        row = dict.fromkeys(TRIALS.names) | identity_columns(self._config, network)
        return row | {
            "schema_version": SCHEMA_VERSION,
            "cohort_id": cohort_id,
            "classes": network.cell.classes,
            "train_size": 10_000,
            "noise_rate_real": network.cell.noise.rate,
            "epochs": EPOCHS_TRAINED,
            "status": Status.COMPLETE.value,
            "train_acc_noisy": accuracy,
            "train_acc_clean": accuracy,
            "val_acc_noisy": accuracy,
            "val_acc_clean": accuracy,
            "best_val_acc_noisy": accuracy,
            "test_acc": test,
            "test_correct": bits,
            "logit_std_init": 1.0,
            "wall_s": 1.0,
            "networks_in_cohort": 1,
            "device": "cpu",
            "host": "planted",
            "started_utc": NOW,
            "finished_utc": NOW,
            "config_sha256": "0" * 64,
            "versions": "{}",
        }


def run_scheduler(scheduler: Scheduler, training: Training) -> dict[Stage, list[dict[str, Any]]]:
    """All rows of a study, in the order in which its networks become due."""
    rows: dict[Stage, list[dict[str, Any]]] = {stage: [] for stage in Stage}
    while (cohort := scheduler.next_cohort()) is not None:
        results = {n.network_id: training.row(n, cohort.cohort_id) for n in cohort.networks}
        scheduler.tell(cohort.cohort_id, results)
        rows[cohort.stage] += results.values()
    assert scheduler.is_done
    return rows


def epoch_row(network_id: str) -> dict[str, Any]:
    """A row of `epochs`; the verdict does not read it."""
    return dict.fromkeys(EPOCHS.names) | {"network_id": network_id, "epoch": EPOCHS_TRAINED}


def lose_seeds(folder: StudyFolder) -> None:
    """Delete a quarter of the common confirm seeds of every cell, each cell's own quarter."""
    (path,) = (Path(folder.path) / "trials/confirm").glob("*.parquet")
    table = pq.read_table(path)
    frame = table.select(["cell_id", "seed", "replicate"]).to_pandas()
    pooled = frame["replicate"].isna()
    seeds = sorted(frame.loc[pooled, "seed"].unique())
    each = len(seeds) // 4
    lost = np.zeros(len(frame), dtype=bool)
    for k, cell in enumerate(sorted(frame["cell_id"].unique())):
        of_cell = [seeds[(k * each + i) % len(seeds)] for i in range(each)]
        lost |= (pooled & (frame["cell_id"] == cell) & frame["seed"].isin(of_cell)).to_numpy()
    pq.write_table(table.filter(~lost), path)


def true_gain(rows: list[dict[str, Any]], training: Training, networks: Mapping[str, Network],
              ) -> list[float]:  # fmt: skip
    """Expected gain of tuning in each replicate, mean over the cells, points."""
    arms: dict[int, dict[str, dict[str, float]]] = {}
    for row in rows:
        if row["replicate"] is not None:
            network = networks[row["network_id"]]
            of_replicate = arms.setdefault(row["replicate"], {})
            of_cell = of_replicate.setdefault(row["cell_id"], {})
            of_cell[row["arm"]] = training.expected(network)
    return [
        float(np.mean([cell[TUNED] - cell[f"analytic:{RULE}"] for cell in replicate.values()]))
        for _, replicate in sorted(arms.items())
    ]


class RecordingScheduler(Scheduler):
    """Remembers the networks of its cohorts."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As of `Scheduler`."""
        super().__init__(*arguments, **options)
        self.networks: dict[str, Network] = {}

    def next_cohort(self) -> Any:
        """As of `Scheduler`."""
        cohort = super().next_cohort()
        if cohort is not None:
            self.networks |= {n.network_id: n for n in cohort.networks}
        return cohort


def study(scenario: Scenario, design: Design, number: int) -> dict[str, Any]:
    """One planted study: what its verdict says, and the truth."""
    with tempfile.TemporaryDirectory() as storage:
        content = design.study_file(scenario.cells, number, storage)
        config = parse_study(content, "planted")
        plan = make_plan(config)
        # Every 18 studies have the same surfaces, so that the mean over their searches is known.
        surfaces = {
            cell: scenario.surface(plan.analytic[cell][RULE], number % 18 + 5 * k)
            for k, cell in enumerate(plan.cells)
        }
        training = Training(config, surfaces, scenario.sd, design)
        scheduler = RecordingScheduler(plan, choose_points=choose_points)
        rows = run_scheduler(scheduler, training)
        folder = StudyFolder.at(str(Path(storage) / config.name))
        for stage, of_stage in rows.items():
            epochs = [epoch_row(row["network_id"]) for row in of_stage[:1]]
            folder.write_part(stage, f"{stage}-0", of_stage, epochs)
        folder.write_bytes("study.yaml", content)
        summary = plan_summary(plan)
        write_plan_summary(folder, summary)
        if scenario.name == "unequal":
            lose_seeds(folder)
        analysis = compute(folder.uri)
        costs = [s.cost(s.analytic) for s in surfaces.values()]
        pilot = pilot_of(analysis.judged, summary)
        return {
            "surface": 0 if scenario.name in ("flat", "worse") else number % 18,
            "cost": float(np.mean(costs)),
            "gains": true_gain(rows[Stage.CONFIRM], training, scheduler.networks),
            "power": pilot.value.power(design.seeds, design.margin, float(np.mean(costs)) / 100),
            **outcome(analysis.verdict),
        }


def outcome(verdict: StudyVerdict) -> dict[str, Any]:
    """What a verdict says; intervals in points."""
    pooled = verdict.pooled
    values = [cell.primary_value for cell in verdict.cells]
    means = [100 * v.mean for v in values if v is not None and v.mean is not None]

    def ends(interval: Any) -> list[float] | None:
        if interval is None or interval.low is None:
            return None
        return [100 * interval.low, 100 * interval.high]

    return {
        "verdict": pooled.verdict.value,
        "cell_verdicts": [cell.verdict.value for cell in verdict.cells],
        "estimate": float(np.mean(means)) if means else None,
        "value": ends(pooled.all_cells_value),
        "procedure": ends(pooled.procedure),
    }


def summary_of(studies: list[dict[str, Any]], margin: float) -> dict[str, Any]:
    """Shares over the studies of one setting."""
    agree = (Verdict.NON_INFERIOR.value, Verdict.EQUIVALENT.value)
    gains: dict[int, list[float]] = {}
    for one in studies:
        gains.setdefault(one["surface"], []).extend(one["gains"])

    def share(values: Iterator[bool]) -> float:
        return float(np.mean(list(values)))

    def holds(interval: list[float] | None, truth: float) -> bool:
        return interval is not None and interval[0] <= truth <= interval[1]

    def width(key: str) -> float:
        return float(np.median([s[key][1] - s[key][0] for s in studies if s[key] is not None]))

    cells = [verdict for one in studies for verdict in one["cell_verdicts"]]
    return {
        "n": len(studies),
        "cost": float(np.mean([s["cost"] for s in studies])),
        "mean_gain_of_tuning": float(np.mean(list(itertools.chain(*gains.values())))),
        "agrees": share(s["verdict"] in agree for s in studies),
        "cells_agree": share(verdict in agree for verdict in cells),
        "inferior": share(s["verdict"] == Verdict.INFERIOR for s in studies),
        "cannot_tell": share(s["verdict"] == Verdict.CANNOT_TELL for s in studies),
        "value_below_margin": share(
            s["value"] is not None and s["value"][1] < 100 * margin for s in studies
        ),
        "value_covers": share(holds(s["value"], s["cost"]) for s in studies),
        "procedure_covers": share(
            holds(s["procedure"], float(np.mean(gains[s["surface"]]))) for s in studies
        ),
        "value_width": width("value"),
        "procedure_width": width("procedure"),
        "power_predicted": float(np.mean([s["power"] for s in studies])),
    }


def line(scenario: Scenario, row: Mapping[str, Any]) -> str:
    """One line of the table that is printed."""
    return (
        f"{scenario.name:8} width {scenario.width:<4g} sd {scenario.sd:<3g} cells {scenario.cells}"
        f"  n {row['n']:3}  agrees {100 * row['agrees']:5.1f} %  value below the margin "
        f"{100 * row['value_below_margin']:5.1f} % (predicted {100 * row['power_predicted']:.1f})"
        f"  cannot tell {100 * row['cannot_tell']:.0f} %  value covers "
        f"{100 * row['value_covers']:5.1f} %  procedure covers "
        f"{100 * row['procedure_covers']:5.1f} %  widths {row['value_width']:.2f}, "
        f"{row['procedure_width']:.2f}"
    )


def scenarios(arguments: argparse.Namespace) -> list[Scenario]:
    """The settings that are measured."""
    all_of_them = []
    for sd in arguments.sds:
        for width in arguments.widths:
            all_of_them.append(Scenario("cost", width, sd, arguments.cost, arguments.cells))
        middle = arguments.widths[len(arguments.widths) // 2]
        for name in ("flat", "worse", "unequal"):
            cells = max(arguments.cells, 4)
            all_of_them.append(Scenario(name, middle, sd, arguments.cost, cells))
    return [s for s in all_of_them if s.name in arguments.scenarios]


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=300, help="for each setting")
    parser.add_argument("--scenarios", nargs="+", default=["cost", "flat", "worse", "unequal"])
    parser.add_argument("--sds", nargs="+", type=float, default=[0.2, 0.5, 1.2, 2.0])
    parser.add_argument("--widths", nargs="+", type=float, default=[0.1, 0.35, 1.0])
    parser.add_argument("--cost", type=float, default=0.51, help="points, in cost and unequal")
    parser.add_argument("--cells", type=int, default=1, help="in cost; at least 4 in the others")
    parser.add_argument("--networks", type=int, default=16, help="per searched arm and replicate")
    parser.add_argument("--replicates", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=12, help="common confirm seeds")
    parser.add_argument("--replicate-seeds", type=int, default=3)
    parser.add_argument("--sweep-points", type=int, default=9)
    parser.add_argument("--sweep-seeds", type=int, default=3)
    parser.add_argument("--lr-points", type=int, default=3)
    parser.add_argument("--test-examples", type=int, default=4000)
    parser.add_argument("--margin", type=float, default=0.005)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--print-only", action="store_true", help="write no file")
    arguments = parser.parse_args()
    design = Design(**{name: getattr(arguments, name) for name in Design.__dataclass_fields__})
    table = {}
    with ProcessPoolExecutor(arguments.processes) as processes:
        futures = {
            scenario: [
                processes.submit(study, scenario, design, n) for n in range(arguments.studies)
            ]
            for scenario in scenarios(arguments)
        }
        for scenario, of_scenario in futures.items():
            row = summary_of([future.result() for future in of_scenario], design.margin)
            name = f"{scenario.name}, width {scenario.width:g}, sd {scenario.sd:g}"
            table[name] = json.loads(json.dumps(row))
            print(line(scenario, row), flush=True)
    if not arguments.print_only:
        from measure import save  # here, because it imports torch

        save("operating-characteristics", vars(arguments), table)


if __name__ == "__main__":
    main()
