"""Studies whose networks train in no time: the result of a network follows from its id alone."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tests_support import BEST_STUDY, GRID_STUDY

from study.config.loader import parse_study
from study.planning import open_study
from study.planning.cells import Network
from study.planning.cohort_specs import identity_columns
from study.planning.open_study import plan_summary
from study.planning.plan import Plan
from study.planning.scheduler import Scheduler
from study.results.evidence import CellEvidence, ChosenPoint
from study.results.folder import StudyFolder
from study.results.plan_summary import write_plan_summary
from study.results.schema import EPOCHS, SCHEMA_VERSION, TRIALS

BEST = {**BEST_STUDY, "search": {**BEST_STUDY["search"], "sampler": "random"}}
GRID = {**GRID_STUDY, "search": {**GRID_STUDY["search"], "sampler": "random"}}


def changed(study: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A study with other values of keys such as `search__replicates`."""
    result = yaml.safe_load(yaml.safe_dump(study))
    for path, value in changes.items():
        *sections, key = path.split("__")
        section = result
        for name in sections:
            section = section[name]
        section[key] = value
    return result


def value(network: Network) -> float:
    """The result of training: a function of the network alone."""
    return random.Random(network.network_id).random()


def row(plan: Plan, network: Network) -> dict[str, Any]:
    """The row of a network; in a study with rungs every fourth network is pruned."""
    is_pruned = bool(plan.config.search.rungs) and network.point is not None
    is_pruned &= value(network) < 0.25
    return {
        **identity_columns(plan.config, network),
        "val_acc_noisy": value(network),
        "val_acc_clean": value(network),
        "epochs": 1 if is_pruned else 4,
        "wall_s": 36.0,
        "networks_in_cohort": 2,
        "status": "pruned" if is_pruned else "complete",
    }


def choose_points(
    evidence: CellEvidence, arms: Mapping[str, float | None]
) -> dict[str, ChosenPoint]:
    """Points that change with every detail of the evidence, its order included."""
    chosen = {}
    for arm, fixed in arms.items():
        draw = random.Random(f"{evidence} {arm}")
        epsilon = draw.uniform(*evidence.epsilon) if fixed is None else fixed
        chosen[arm] = ChosenPoint(draw.choice(list(evidence.losses)), epsilon, draw.random())
    return chosen


def plan_of(study: dict[str, Any], *earlier: dict[str, Any]) -> Plan:
    config, *others = (parse_study(yaml.safe_dump(s).encode(), "test") for s in (study, *earlier))
    return open_study.plan_of(config, others)


def finish(plan: Plan, rows: list[dict[str, Any]], at_most: int = 10**6) -> Scheduler:
    """Train everything that is due; `rows` gains the new rows."""
    scheduler = Scheduler(plan, list(rows), choose_points=choose_points)
    while at_most > 0 and (cohort := scheduler.next_cohort()):
        done = {n.network_id: row(plan, n) for n in cohort.networks}
        rows += done.values()
        scheduler.tell(cohort.cohort_id, done)
        at_most -= 1
    return scheduler


def write_folder(folder: Path, study: dict[str, Any], at_most: int = 10**6) -> Path:
    """A folder as a run leaves it; the result of a network follows from its id alone."""
    plan, rows = plan_of(study), []
    finish(plan, rows, at_most)
    target = StudyFolder.at(str(folder / study["name"]))
    for stage in ("search", "sweep", "confirm"):
        trials = [
            {**dict.fromkeys(TRIALS.names), "schema_version": SCHEMA_VERSION, "classes": 10, **r}
            for r in rows
            if r["stage"] == stage
        ]
        for i, trial in enumerate(trials):
            trial["cohort_id"] = f"{stage}-{folder.name}-{i // 5}"
            trial["test_acc"] = trial["val_acc_noisy"] if stage == "confirm" else None
        for first in range(0, len(trials), 5):
            part = trials[first : first + 5]
            epochs = [
                {**dict.fromkeys(EPOCHS.names), "network_id": t["network_id"], "epoch": e}
                for t in part
                for e in range(1, t["epochs"] + 1)
            ]
            target.write_part(stage, part[0]["cohort_id"], part, epochs)
    text = yaml.safe_dump({**study, "storage": str(folder)})
    target.write_bytes("study.yaml", text.encode())
    write_plan_summary(target, plan_summary(plan))
    return Path(target.path)
