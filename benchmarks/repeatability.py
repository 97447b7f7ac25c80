"""Whether a second run would repeat a verdict: one study file with other study seeds.

    python benchmarks/repeatability.py [study.yaml] [--seeds 12] [--storage FOLDER]

Runs the study file (by default the preset `quickstart`) with `seed: 0`, 1, … through `logit-bias
run`, analyses every study, and compares the answers: pooled and for every cell, value (what
analytic ε costs) and procedure (what tuning ε gains).

- `holds_mean_of_others`: number of 90 % intervals that hold the mean of the other studies' means.
- `sd_over_promised`: standard deviation of the means over the standard error that the intervals
  promise (root mean square of half-width / quantile).
- `contradictions`: pairs of decided verdicts of which one says that analytic ε costs less than the
  margin (non-inferior, equivalent, cannot tell) and the other that it costs more (inferior).

A study that is finished is not run again; an interrupted one is resumed. Writes
benchmarks/results/repeatability-<name>-<date>.json.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from analysis.inference.cell_records import CellVerdict
from analysis.inference.records import Interval, Procedure, Verdict
from analysis.inference.study_records import PooledVerdict
from analysis.inference.summary import verdict_paragraph
from analysis.verdict import compute
from study.results.folder import ResultsError
from study.results.status import study_status

AGREE = {Verdict.NON_INFERIOR.value, Verdict.EQUIVALENT.value, Verdict.CANNOT_TELL.value}
Answer = dict[str, Any]


def run(content: Mapping[str, Any], seed: int, storage: Path) -> tuple[Path, float | None]:
    """Run or resume the study with one seed.

    Returns:
        its folder, and the wall time; None where it was finished before.
    """
    name = f"{content['name']}-{seed}"
    folder = storage / name
    if is_done(folder):
        return folder, None
    storage.mkdir(parents=True, exist_ok=True)
    path = storage / f"{name}.yaml"
    text = yaml.safe_dump({**content, "name": name, "seed": seed, "storage": str(storage)})
    path.write_text(text)
    started = time.perf_counter()
    with (storage / f"{name}.log").open("a") as log:
        command = [sys.executable, "-m", "study.cli", "run", str(path)]
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    return folder, time.perf_counter() - started


def is_done(folder: Path) -> bool:
    """Whether every network of a study has a row."""
    try:
        return study_status(str(folder)).is_done
    except ResultsError:
        return False


def answer(interval: Interval | None, verdict: Verdict, quantile: float) -> Answer | None:
    """Mean, interval (points), promised standard error and verdict of one quantity.

    Args:
        interval: the quantity.
        verdict: on it.
        quantile: half-width of the interval in standard errors.
    """
    if interval is None or interval.mean is None:
        return None
    low, high = interval.ends or (None, None)
    error = None if low is None or high is None else 100 * (high - low) / 2 / quantile
    return {
        "mean": 100 * interval.mean,
        "low": None if low is None else 100 * low,
        "high": None if high is None else 100 * high,
        "error": error,
        "verdict": verdict.value,
    }


def value_answer(value: Interval | None, verdict: Verdict) -> Answer | None:
    """The answer about the value, whose interval is nearly normal."""
    return answer(value, verdict, float(stats.norm.ppf(0.95)))


def procedure_answer(procedure: Procedure | None) -> Answer | None:
    """The answer about the procedure, a t interval over searches."""
    if procedure is None:
        return None
    quantile = float(stats.t.ppf(0.95, max(procedure.n - 1, 1)))
    return answer(procedure, procedure.verdict, quantile)


def pooled_answers(pooled: PooledVerdict) -> dict[str, Answer | None]:
    """Value and procedure over all cells."""
    return {
        "value": value_answer(pooled.value, pooled.verdict),
        "procedure": procedure_answer(pooled.procedure),
    }


def cell_answers(cell: CellVerdict) -> dict[str, Answer | None]:
    """Value and procedure of one cell."""
    return {
        "value": value_answer(cell.primary_value, cell.verdict),
        "procedure": procedure_answer(cell.primary_procedure),
    }


def answers_of(folder: Path) -> dict[str, Any]:
    """{"pooled" or cell id: {"value" or "procedure": answer}}, and the paragraph."""
    verdict = compute(str(folder)).verdict
    cells = {cell.cell_id: cell_answers(cell) for cell in verdict.cells if cell.rule is not None}
    return {
        "answers": {"pooled": pooled_answers(verdict.pooled), **cells},
        "paragraph": verdict_paragraph(verdict),
    }


def comparison(answers: Sequence[Answer | None]) -> dict[str, Any]:
    """How far the answers of several studies to one question repeat each other."""
    given = [a for a in answers if a is not None]
    with_interval = [a for a in given if a["low"] is not None and a["error"] is not None]
    means = np.array([a["mean"] for a in given])
    held = 0
    for a in with_interval:
        others = [other["mean"] for other in given if other is not a]
        held += bool(others) and bool(a["low"] <= np.mean(others) <= a["high"])
    sd = float(means.std(ddof=1)) if len(means) > 1 else None
    promised = None
    if with_interval:
        promised = float(np.sqrt(np.mean([a["error"] ** 2 for a in with_interval])))
    verdicts = [a["verdict"] for a in given]
    return {
        "studies": len(given),
        "with_interval": len(with_interval),
        "holds_mean_of_others": held,
        "mean": float(means.mean()) if len(means) else None,
        "sd": sd,
        "promised": promised,
        "sd_over_promised": sd / promised if sd is not None and promised else None,
        "verdicts": {name: verdicts.count(name) for name in dict.fromkeys(verdicts)},
        "contradictions": sum(
            (one in AGREE and other == Verdict.INFERIOR.value)
            or (other in AGREE and one == Verdict.INFERIOR.value)
            for one, other in itertools.combinations(verdicts, 2)
        ),
    }


def compared(studies: Mapping[str, Any]) -> dict[str, Any]:
    """`comparison` of every question that a study answers."""
    every = [one["answers"] for one in studies.values()]
    questions = dict.fromkeys(question for answers in every for question in answers)
    return {
        question: {
            kind: comparison([answers[question][kind] for answers in every if question in answers])
            for kind in ("value", "procedure")
        }
        for question in questions
    }


def text(answer: Answer | None) -> str:
    """An answer in one line."""
    if answer is None:
        return "–"
    ends = "" if answer["low"] is None else f" ({answer['low']:.2f} to {answer['high']:.2f})"
    return f"{answer['mean']:.2f}{ends} {answer['verdict']}"


def summary_line(name: str, kind: str, row: Mapping[str, Any]) -> str:
    """A comparison in one line."""
    ratio = row["sd_over_promised"]
    return (
        f"{name}, {kind}: {row['holds_mean_of_others']} of {row['with_interval']} intervals hold "
        f"the mean of the others; sd of the means over the promised "
        f"{'–' if ratio is None else f'{ratio:.2f}'}; verdicts {row['verdicts']}; "
        f"contradictions {row['contradictions']}"
    )


def main() -> None:
    """Run, analyse, print and save."""
    preset = files("study.config") / "presets" / "quickstart.yaml"
    parser = argparse.ArgumentParser()
    parser.add_argument("study", nargs="?", default=str(preset), help="a study file")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--storage", default="results/repeatability")
    parser.add_argument("--print-only", action="store_true", help="write no file")
    arguments = parser.parse_args()
    content = yaml.safe_load(Path(arguments.study).read_text())
    studies: dict[str, Any] = {}
    for seed in range(arguments.seeds):
        folder, wall_s = run(content, seed, Path(arguments.storage).resolve())
        studies[str(seed)] = answers_of(folder) | {"wall_s": wall_s}
        pooled = studies[str(seed)]["answers"]["pooled"]
        print(f"seed {seed}: value {text(pooled['value'])}; procedure {text(pooled['procedure'])}",
              flush=True)  # fmt: skip
    table = compared(studies)
    for name, kinds in table.items():
        for kind, row in kinds.items():
            print(summary_line(name, kind, row))
    if not arguments.print_only:
        from measure import save  # here, because it imports torch

        configuration = {"study": content, "seeds": arguments.seeds}
        name = f"repeatability-{content['name']}"
        save(name, configuration, {"comparison": table, "studies": studies})


if __name__ == "__main__":
    main()
