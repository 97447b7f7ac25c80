"""What the page asks of the rows: each study analysed, and numbers of its cells."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from wording import (
    number,
    points,
)

from analysis.inference.cell_records import CellVerdict
from analysis.inference.intervals import mean_interval
from analysis.inference.records import Interval
from analysis.inference.study_records import NoiseSlope
from analysis.recommendation.comparisons import gain_of
from analysis.recommendation.records import Gain
from analysis.verdict import StudyAnalysis, compute
from study.results.schema import Stage

HERE = Path(__file__).parent
RULE = "activation"  # the analytic arm that the page speaks of
_PROCESSORS = dict.fromkeys(("annealed-constant", "term-weights"), "an Intel Xeon")
_MOSTLY = "an AMD EPYC"
"""{study: processor}, which the rows do not name, and that of all others."""
_EDGE = 1.15  # a learning rate within this factor of an end of its range lies at the end


@dataclass(frozen=True)
class Line:
    """A straight line through best ε against analytic ε, with 95 % intervals of its coefficients.

    Attributes:
        slope: (value, low, high).
        intercept: (value, low, high), at the mean analytic ε, minus that ε.
        cells: number of cells.
    """

    slope: tuple[float, float, float]
    intercept: tuple[float, float, float]
    cells: int


@dataclass(frozen=True)
class Confirmed:
    """An arm of a cell as it was measured.

    Attributes:
        cell_id: the cell.
        arm: the arm.
        rows: its confirm rows on the common seeds, indexed by (study, row).
        correct: {label of a row: what the network gets right}, also of other rows.
    """

    cell_id: str
    arm: str
    rows: pd.DataFrame
    correct: dict[Any, bytes]

    @property
    def accuracy(self) -> Interval:
        """Test accuracy, a fraction, with its 90 % interval over seeds."""
        return mean_interval(self.rows["test_acc"].dropna())

    @property
    def epsilon(self) -> float:
        """Its ε."""
        return float(self.rows["epsilon"].mean())

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.rows["classes"].iloc[0])

    @property
    def validation(self) -> float:
        """Mean validation accuracy on noisy labels, a fraction."""
        return float(self.rows["val_acc_noisy"].mean())

    @property
    def params(self) -> dict[str, float]:
        """Parameters of the loss that differ from its defaults."""
        params: dict[str, float] = json.loads(self.rows["loss_params"].iloc[0] or "{}")
        return params

    @property
    def loss(self) -> str:
        """The loss that was trained."""
        return str(self.rows["loss"].iloc[0])


class Findings:
    """The analysed studies of this folder, and what the template asks of them."""

    def __init__(self) -> None:
        paths = sorted(path.parent for path in HERE.glob("*/study.yaml"))
        workers = min(os.cpu_count() or 1, len(paths))
        analyses = Parallel(workers)(delayed(compute)(str(path)) for path in paths)
        self.studies: dict[str, StudyAnalysis] = {
            path.name: analysis for path, analysis in zip(paths, analyses, strict=True)
        }
        self._arms: dict[str, list[Confirmed]] = {}

    def cells(self, study: str, **wanted: object) -> list[CellVerdict]:
        """The cells of a study that takes ε, with the given attributes."""
        return [
            cell
            for cell in self.studies[study].verdict.cells
            if cell.primary_value is not None
            and cell.epsilon_analytic
            and all(getattr(cell, name) == value for name, value in wanted.items())
        ]

    def line(self, studies: Iterable[str], **wanted: object) -> Line:
        """Best ε against analytic ε over cells whose best ε lies inside the range.

        The intervals hold the uncertainty of each cell's best ε (one drawn curve per cell and
        draw), and not how other cells would differ from these.
        """
        x, peaks = [], []
        for study in studies:
            for cell in self.cells(study, **wanted):
                response = self.studies[study].responses.get(cell.cell_id)
                if response is not None and not response.best.flat and not response.best.on_edge:
                    x.append(cell.epsilon_analytic[cell.rule or ""])
                    peaks.append(np.random.default_rng(len(x)).permutation(response.peaks))
        centred = np.array(x) - np.mean(x)
        y = np.array(peaks)  # (cells, draws)
        slopes = centred @ y / (centred**2).sum()
        offsets = y.mean(axis=0) - np.mean(x)
        return Line(_interval(slopes), _interval(offsets), len(x))

    def networks(self, study: str | None = None) -> int:
        """Trained networks of one study, or of all; one that two studies share counts once."""
        chosen = self.studies.values() if study is None else [self.studies[study]]
        return len({network for s in chosen for network in s.study.trials["network_id"]})

    def cell(self, study: str, **wanted: object) -> CellVerdict:
        """The only cell of a study with the given attributes."""
        (cell,) = self.cells(study, **wanted)
        return cell

    def accuracy(self, study: str, arm: str, **wanted: object) -> str:
        """Test accuracy of an arm in the only cell with the given attributes, per cent."""
        cell = self.cell(study, **wanted)
        return points(cell.accuracy[arm_name(cell, arm)])

    def range(self, study: str, arm: str, **wanted: object) -> str:
        """Lowest and highest test accuracy of an arm over a study's cells, per cent."""
        values = [_accuracy(cell, arm) for cell in self.cells(study, **wanted)]
        return f"{number(min(values), 0)} to {number(max(values), 0)}"

    def value_range(self, study: str) -> str:
        """Lowest and highest cost of analytic ε over a study's cells, with their intervals."""
        values = [cell.primary_value for cell in self.cells(study)]
        known = sorted((v for v in values if v and v.mean is not None), key=lambda v: v.mean or 0.0)
        return f"{points(known[0])} to {points(known[-1])}"

    def confirmed(self, study: str, arm: str, **wanted: object) -> Confirmed:
        """An arm of the only cell with the given values of columns of `trials`.

        `arm` may be `analytic` for the first analytic arm. Rows are those of the common seeds.
        """
        found = self.arms_of(study, **wanted)
        name = f"analytic:{RULE}" if arm == "analytic" else arm
        (only,) = (confirmed for confirmed in found if confirmed.arm == name)
        return only

    def arms_of(self, study: str, **wanted: object) -> list[Confirmed]:
        """Every arm of every cell with the given values of columns of `trials`."""
        if study not in self._arms:
            self._arms[study] = self._confirmed(study)
        return [
            arm
            for arm in self._arms[study]
            if all(arm.rows[column].iloc[0] == value for column, value in wanted.items())
        ]

    def _confirmed(self, study: str) -> list[Confirmed]:
        analysed = self.studies[study].study
        rows = analysed.stage(Stage.CONFIRM)
        rows = rows[rows["replicate"].isna()].dropna(subset=["arm"])
        correct = {(study, k): v for k, v in analysed.test_correct(rows).items()}
        rows = rows.set_axis([(study, k) for k in rows.index])
        return [
            Confirmed(str(cell_id), str(arm), of_arm, correct)
            for (cell_id, arm), of_arm in rows.groupby(["cell_id", "arm"], sort=False)
        ]

    def gain(self, first: Confirmed, second: Confirmed) -> Gain:
        """Test accuracy of one arm minus that of another, paired by seed."""
        return gain_of(first.rows, second.rows, {**first.correct, **second.correct})

    def best_without_epsilon(self, study: str, **wanted: object) -> list[Confirmed]:
        """The losses with the best validation accuracy on noisy labels among those at ε = 0.

        Several where the 90 % interval of their paired difference from the best contains 0.
        """
        plain = [c for c in self.arms_of(study, **wanted) if c.epsilon == 0]
        first = max(plain, key=lambda c: c.validation)
        return [c for c in plain if c is first or _tie(first, c)]

    def span(self, study: str, arm: str, **wanted: object) -> str:
        """Lowest and highest test accuracy of an arm over cells with these values, per cent."""
        name = f"analytic:{RULE}" if arm == "analytic" else arm
        levels = [
            100 * (c.accuracy.mean or 0.0) for c in self.arms_of(study, **wanted) if c.arm == name
        ]
        return f"{number(min(levels), 0)} to {number(max(levels), 0)}"

    def level(self, study: str, arm: str, **wanted: object) -> str:
        """Mean test accuracy of an arm of the only cell with these values, per cent."""
        accuracy = self.confirmed(study, arm, **wanted).accuracy
        return points(accuracy)

    def groups(self, study: str, arm: str, cuts: Sequence[float], **wanted: object) -> list[str]:
        """The networks of an arm between cuts of test accuracy (per cent), best group first.

        Returns:
            For each group, how many networks it has and their accuracies: `6 at 82 to 85 %`.
        """
        levels = 100 * self.confirmed(study, arm, **wanted).rows["test_acc"].dropna()
        texts = []
        for low, high in pairwise([-math.inf, *cuts, math.inf]):
            inside = levels[(levels >= low) & (levels < high)]
            ends = [number(x, 0) for x in (inside.min(), inside.max())]
            span = ends[0] if ends[0] == ends[1] else " to ".join(ends)
            texts.append(f"{len(inside)} at {span} %")
        return texts[::-1]

    def median(self, study: str, arm: str, **wanted: object) -> str:
        """Median test accuracy of an arm, per cent."""
        levels = self.confirmed(study, arm, **wanted).rows["test_acc"]
        return number(100 * float(levels.median()))

    def collapsed(self, study: str, arm: str, **wanted: object) -> str:
        """How many networks of an arm end within five times the accuracy of guessing."""
        rows = self.confirmed(study, arm, **wanted).rows
        return f"{int((rows['test_acc'] < 5 / rows['classes']).sum())} of {len(rows)}"

    def signature(self, study: str, name: str, arm: str, **wanted: object) -> str:
        """How many networks of an arm show a signature of failure: `12 of 12`."""
        confirmed = self.confirmed(study, arm, **wanted)
        table = self.studies[study].tables["signatures"]
        is_here = (table["cell_id"] == confirmed.cell_id) & (table["arm"] == confirmed.arm)
        ((_, row),) = table[is_here & (table["signature"] == name)].iterrows()
        return f"{row['networks']} of {row['n']}"

    def edges(self) -> tuple[int, int]:
        """Arms whose learning rate lies within 15 % of an end of its range, and all arms.

        Counts the best and the analytic arm of every cell on the common seeds; one that several
        studies share counts once, and studies that give a learning rate do not count.
        """
        at_edge: dict[tuple[str, ...], bool] = {}
        for study, analysis in self.studies.items():
            limits = analysis.study.config["search"]["lr"]
            if limits["high"] < _EDGE**2 * limits["low"]:  # no search
                continue
            for arm in self.arms_of(study):
                if arm.arm in ("best", f"analytic:{RULE}"):
                    lr = float(arm.rows["lr"].mean())
                    networks = tuple(sorted(arm.rows["network_id"]))
                    is_low, is_high = lr < _EDGE * limits["low"], lr > limits["high"] / _EDGE
                    at_edge[networks] = at_edge.get(networks, False) or is_low or is_high
        return sum(at_edge.values()), len(at_edge)

    def rates(self, study: str) -> str:
        """The learning rates that a study searches."""
        limits = self.studies[study].study.config["search"]["lr"]
        return f"{limits['low']:g} to {limits['high']:g}"

    def rate_text(self, study: str, arm: str, **wanted: object) -> str:
        """Learning rate of an arm, and whether it lies at an end of the range."""
        limits = self.studies[study].study.config["search"]["lr"]
        rate = self.rate(study, arm, **wanted)
        text = number(rate, 3 if rate < 0.1 else 2)
        end = "low" if rate < _EDGE * limits["low"] else "high"
        inside = _EDGE * limits["low"] <= rate <= limits["high"] / _EDGE
        return text if inside else f"{text}, at the {end} end of the range searched"

    def rate(self, study: str, arm: str, **wanted: object) -> float:
        """Learning rate of an arm of the only cell with these values."""
        return float(self.confirmed(study, arm, **wanted).rows["lr"].mean())

    def dynamics(self, study: str, column: str, arm: str, **wanted: object) -> float:
        """A column of the table `dynamics` for an arm: a mean over the common seeds."""
        return float(self.dynamics_row(study, self.confirmed(study, arm, **wanted))[column])

    def dynamics_row(self, study: str, confirmed: Confirmed) -> pd.Series[Any]:
        """The row of an arm in the table `dynamics`."""
        table = self.studies[study].tables["dynamics"]
        is_here = (table["cell_id"] == confirmed.cell_id) & (table["arm"] == confirmed.arm)
        ((_, row),) = table[is_here & table["replicate"].isna()].iterrows()
        return row

    def measured(self, study: str, **wanted: object) -> str:
        """The measured difference of best and analytic arm, without the surface, in points."""
        value = self.cell(study, **wanted).primary_value
        return points(None if value is None else value.measured)

    def minutes(self, study: str) -> float:
        """Time from a study's first to its last network."""
        record = self.studies[study].verdict.provenance
        started, finished = (
            dt.datetime.fromisoformat(moment or "")
            for moment in (record.started_utc, record.finished_utc)
        )
        return (finished - started).total_seconds() / 60

    def hours_on_cpu(self) -> float:
        """Time of all studies on a CPU, one after the other."""
        on_cpu = (s for s, a in self.studies.items() if a.verdict.provenance.device == ["cpu"])
        return sum(self.minutes(study) for study in on_cpu) / 60

    def slope(self, study: str) -> NoiseSlope:
        """How the best ε of a study's only group of cells moves with the noise rate."""
        (slope,) = self.studies[study].verdict.noise_slopes
        return slope

    def head(self, *studies: str) -> str:
        """What a section rests on: commands, networks, n, intervals, hardware, commits, time."""
        analyses = [self.studies[study] for study in studies]
        config = analyses[0].study.config
        seeds, replicates = config["confirm"]["seeds"], config["search"].get("replicates", 1)
        parts = [f"accuracies and their differences from n = {seeds} paired seeds, 90 % intervals"]
        if config.get("sweep"):
            parts.append(f"best ε from n = {config['sweep']['seeds']} seeds per point, 95 %")
        if replicates > 1:
            parts.append(f"gain of tuning from n = {replicates} searches, 90 %")
        commits = {c[:7] for a in analyses for c in a.verdict.provenance.git_commit}
        commands = [
            f"`logit-bias run {s}` ({self.networks(s):,} networks, {self.minutes(s):.0f} min)"
            for s in studies
        ]
        processors = dict.fromkeys(_PROCESSORS.get(study, _MOSTLY) for study in studies)
        hardware = f"two cores of {' or '.join(processors)}, commit {', '.join(sorted(commits))}"
        return "; ".join([", ".join(commands), *parts, hardware]) + "."


def arm_name(cell: CellVerdict, arm: str) -> str:
    """The arm as rows name it; `analytic` stands for the arm of the cell's rule."""
    return f"analytic:{cell.rule}" if arm == "analytic" else arm


def _tie(one: Confirmed, other: Confirmed) -> bool:
    validation = (c.rows.set_index("seed")["val_acc_noisy"] for c in (one, other))
    difference = mean_interval(next(validation) - next(validation))
    return difference.low is not None and difference.low <= 0


def _accuracy(cell: CellVerdict, arm: str) -> float:
    return 100 * (cell.accuracy[arm_name(cell, arm)].mean or 0.0)


def _interval(draws: Any) -> tuple[float, float, float]:
    low, middle, high = np.quantile(draws, [0.025, 0.5, 0.975])
    return float(middle), float(low), float(high)
