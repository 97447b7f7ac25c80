"""Whether a second run repeats the verdict: one study file with other study seeds.

    python benchmarks/repeatability.py [study.yaml] [--seeds 12] [--storage FOLDER]

Runs the study file (by default the preset `quickstart`) with `seed: 0`, 1, … through `logit-bias
run` and compares the pooled regrets:

- `holds_mean_of_others`: number of 90 % intervals that contain the mean of the other studies.
- `sd_over_promised`: standard deviation of the means over the standard error that the intervals
  imply (root mean square).
- `contradictions`: pairs of studies of which one is non-inferior and the other inferior.

A finished study is not run again; an interrupted one is resumed. Writes
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
from measure import save
from scipy import stats

from analysis.inference.records import Verdict
from analysis.verdict import compute
from study.results.folder import ResultsError
from study.results.status import study_status


def run(content: Mapping[str, Any], seed: int, storage: Path) -> tuple[Path, float | None]:
    """Run or resume the study with one seed.

    Returns:
        its folder, and the wall time in seconds; None if it was finished before.
    """
    name = f"{content['name']}-{seed}"
    if is_done(storage / name):
        return storage / name, None
    storage.mkdir(parents=True, exist_ok=True)
    path = storage / f"{name}.yaml"
    settings = {**content, "name": name, "seed": seed, "storage": str(storage)}
    path.write_text(yaml.safe_dump(settings))
    started = time.perf_counter()
    with (storage / f"{name}.log").open("a") as log:
        command = [sys.executable, "-m", "study.cli", "run", str(path)]
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    return storage / name, time.perf_counter() - started


def is_done(folder: Path) -> bool:
    """Whether every network of a study has a row."""
    try:
        return study_status(str(folder)).is_done
    except ResultsError:
        return False


def pooled_regret(folder: Path) -> dict[str, Any]:
    """Pooled regret in percentage points with its 90 % interval, n, and the verdict."""
    pooled = compute(str(folder)).verdict.pooled
    mean, low, high = pooled.regret.mean, pooled.regret.low, pooled.regret.high
    assert mean is not None
    assert low is not None
    assert high is not None
    half = 100 * (high - low) / 2
    return {
        "mean": 100 * mean,
        "low": 100 * low,
        "high": 100 * high,
        "standard_error": half / float(stats.t.ppf(0.95, pooled.regret.n - 1)),
        "n": pooled.regret.n,
        "verdict": pooled.verdict.value,
    }


def comparison(regrets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How well the studies repeat each other."""
    means = np.array([regret["mean"] for regret in regrets])
    others = [float(np.delete(means, k).mean()) for k in range(len(means))]
    promised = float(np.sqrt(np.mean([regret["standard_error"] ** 2 for regret in regrets])))
    verdicts = [regret["verdict"] for regret in regrets]
    decided = {Verdict.NON_INFERIOR.value, Verdict.INFERIOR.value}
    return {
        "studies": len(regrets),
        "holds_mean_of_others": sum(
            regret["low"] <= mean <= regret["high"]
            for regret, mean in zip(regrets, others, strict=True)
        ),
        "mean": float(means.mean()),
        "sd": float(means.std(ddof=1)),
        "promised": promised,
        "sd_over_promised": float(means.std(ddof=1)) / promised,
        "verdicts": {name: verdicts.count(name) for name in dict.fromkeys(verdicts)},
        "contradictions": sum(
            {one, other} == decided for one, other in itertools.combinations(verdicts, 2)
        ),
    }


def main() -> None:
    """Run the studies, print each, compare and save."""
    preset = files("study.config") / "presets" / "quickstart.yaml"
    parser = argparse.ArgumentParser()
    parser.add_argument("study", nargs="?", default=str(preset), help="a study file")
    parser.add_argument("--seeds", type=int, default=12, help="2 or more")
    parser.add_argument("--storage", default="results/repeatability")
    arguments = parser.parse_args()
    content = yaml.safe_load(Path(arguments.study).read_text())
    studies: dict[str, dict[str, Any]] = {}
    for seed in range(arguments.seeds):
        folder, wall_s = run(content, seed, Path(arguments.storage).resolve())
        regret = pooled_regret(folder)
        studies[str(seed)] = {**regret, "wall_s": wall_s}
        interval = f"{regret['low']:.2f} to {regret['high']:.2f}"
        print(f"seed {seed}: {regret['mean']:.2f} ({interval}) {regret['verdict']}", flush=True)
    table = comparison(list(studies.values()))
    print(table)
    configuration = {"study": content, "seeds": arguments.seeds}
    save(f"repeatability-{content['name']}", configuration, {**table, "by_seed": studies})


if __name__ == "__main__":
    main()
