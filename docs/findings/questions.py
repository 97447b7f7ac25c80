"""What the page asks of the rows: each study analysed, and numbers of its cells."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from wording import (
    ARMS,
    best,
    cell_text,
    dataset,
    model,
    noise,
    number,
    percent,
    points,
    share,
    words,
)

from analysis.inference.cell_records import CellVerdict
from analysis.inference.intervals import mean_interval
from analysis.inference.records import Interval
from analysis.inference.study_records import NoiseSlope
from analysis.recommendation.comparisons import gain_of
from analysis.recommendation.records import Gain
from analysis.verdict import StudyAnalysis, compute
from study.results.schema import Stage
from trainables.theory.rules import analytic_rules

HERE = Path(__file__).parent
RULE = "activation"  # the analytic arm that the page speaks of


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
        self.studies: dict[str, StudyAnalysis] = {path.name: compute(str(path)) for path in paths}

    def cells(self, study: str, **wanted: object) -> list[CellVerdict]:
        """The cells of a study that takes ε, with the given attributes."""
        return [
            cell
            for cell in self.studies[study].verdict.cells
            if cell.primary_value is not None
            and cell.epsilon_analytic
            and all(getattr(cell, name) == value for name, value in wanted.items())
        ]

    def table(self, study: str) -> str:
        """One row per cell."""
        header = (
            "| cell | analytic ε | best ε (95 %) | accuracy at ε = 0, analytic, best | cost of "
            "analytic ε (90 %) | share recovered (90 %) | gain of tuning (90 %) | verdict |"
        )
        rows = [self._row(cell) for cell in self.cells(study)]
        return "\n".join([header, "|" + "---|" * 8, *rows])

    def _row(self, cell: CellVerdict) -> str:
        rule = cell.rule or ""
        value, gain = cell.primary_value, cell.procedure.get(rule)
        recovered = cell.recovered.get(rule)
        accuracy = [cell.accuracy.get(arm) for arm in ("zero", f"analytic:{rule}", "best")]
        levels = " · ".join(
            "–" if a is None or a.mean is None else f"{100 * a.mean:.1f}" for a in accuracy
        )
        return (
            f"| {dataset(cell.dataset)}, {noise(cell)}, {cell.loss} "
            f"| {cell.epsilon_analytic[rule]:.2f} | {best(cell)} | {levels} "
            f"| {points(value)} | {share(recovered)} | {points(gain)} "
            f"| {words(cell.verdict.value)} |"
        )

    def rule_table(self, study: str, rules: Sequence[str]) -> str:
        """One row per model: the ε of each rule, the best one, and what each rule costs."""
        columns = [
            *("model", "spread of the initial logits"),
            *(f"ε by {rule}" for rule in rules),
            "best ε (95 %)",
            *(f"cost of {rule} (90 %)" for rule in rules),
        ]
        spread = self.studies[study].study.trials.groupby("cell_id")["logit_std_init"].mean()
        rows = [
            [
                model(cell),
                number(float(spread[cell.cell_id])),
                *(f"{cell.epsilon_analytic[rule]:.2f}" for rule in rules),
                best(cell),
                *(points(cell.value.get(rule)) for rule in rules),
            ]
            for cell in self.cells(study)
        ]
        lines = [columns, ["---"] * len(columns), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

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
        return number(_accuracy(self.cell(study, **wanted), arm))

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
        found = self._confirmed(study, **wanted)
        name = f"analytic:{RULE}" if arm == "analytic" else arm
        (only,) = (confirmed for confirmed in found if confirmed.arm == name)
        return only

    def _confirmed(self, study: str, **wanted: object) -> list[Confirmed]:
        """Every arm of every cell with the given values of columns of `trials`."""
        analysed = self.studies[study].study
        rows = analysed.stage(Stage.CONFIRM)
        rows = rows[rows["replicate"].isna()].dropna(subset=["arm"])
        for column, value in wanted.items():
            rows = rows[rows[column] == value]
        correct = {(study, k): v for k, v in analysed.test_correct(rows).items()}
        rows = rows.set_axis([(study, k) for k in rows.index])
        return [
            Confirmed(str(cell_id), str(arm), of_arm, correct)
            for (cell_id, arm), of_arm in rows.groupby(["cell_id", "arm"], sort=False)
        ]

    def gain(self, first: Confirmed, second: Confirmed) -> Gain:
        """Test accuracy of one arm minus that of another, paired by seed."""
        return gain_of(first.rows, second.rows, {**first.correct, **second.correct})

    def best_without_epsilon(self, study: str, **wanted: object) -> Confirmed:
        """The loss with the best validation accuracy on noisy labels among those at ε = 0."""
        plain = [c for c in self._confirmed(study, **wanted) if c.epsilon == 0]
        return max(plain, key=lambda c: c.validation)

    def loss_table(self, study: str, dataset: str) -> str:
        """One row per loss on a data set: test accuracy at ε = 0, at analytic and at tuned ε."""
        header = "| loss | ε = 0 | analytic ε | tuned ε |"
        cells: dict[str, dict[str, Confirmed]] = {}
        for confirmed in self._confirmed(study, dataset=dataset):
            cells.setdefault(confirmed.cell_id, {})[confirmed.arm] = confirmed
        rows = []
        for _, arms in sorted(cells.items()):
            first = next(iter(arms.values()))
            if "zero" not in arms:  # a loss that takes no ε has one arm
                arms = {"zero": first}
            levels = [
                "–" if arm not in arms else points(arms[arm].accuracy)
                for arm in ("zero", f"analytic:{RULE}", "tuned")
            ]
            rows.append(f"| {first.loss} | {' | '.join(levels)} |")
        return "\n".join([header, "|" + "---|" * 4, *rows])

    def schedule_table(self, constant: str, schedules: Sequence[str], **wanted: object) -> str:
        """One row per schedule of ε: accuracy at analytic ε, and what it loses late."""
        header = (
            "| schedule of ε | test accuracy | minus constant ε (90 %) | accuracy lost after the "
            "best epoch | wrong labels reproduced minus corrected |"
        )
        base = self.confirmed(constant, "analytic", **wanted)
        rows = []
        for study in (constant, *schedules):
            arm = self.confirmed(study, "analytic", **wanted)
            row = self._dynamics_row(study, arm)
            name = study.removeprefix("annealed-") if study != constant else "constant"
            gain = "–" if study == constant else points(self.gain(arm, base))
            rows.append(
                f"| {name} | {number(100 * (arm.accuracy.mean or 0.0))} | {gain} "
                f"| {number(100 * row['best_minus_last'])} points | {percent(row['memorised'])} |"
            )
        return "\n".join([header, "|" + "---|" * 5, *rows])

    def q_table(self, study: str) -> str:
        """One row per class count and noise: what q does without ε, and what the rule's q costs."""
        found = [c for c in self._confirmed(study) if c.arm == "zero"]
        values = sorted({c.params["q"] for c in found})
        header = " | ".join(
            [
                *("| data", "q of the rule", *(f"q = {q}" for q in values)),
                "best q by validation minus the q next to the rule's |",
            ]
        )
        groups: dict[str, dict[float, Confirmed]] = {}
        for confirmed in found:
            cell = cell_text(confirmed.cell_id).removesuffix(", gce")
            groups.setdefault(cell, {})[confirmed.params["q"]] = confirmed
        rows = []
        for cell, of_q in sorted(groups.items(), key=lambda item: item[1][values[0]].classes):
            (rule,) = analytic_rules(
                of_q[values[0]].classes, loss="gce", parameter="q", rules=["gradient"]
            )
            near = min(values, key=lambda q: abs(q - (rule.value or 0.0)))
            best_q = max(values, key=lambda q: of_q[q].validation)
            levels = [number(100 * (of_q[q].accuracy.mean or 0.0)) for q in values]
            cost = "0, the same" if near == best_q else points(self.gain(of_q[best_q], of_q[near]))
            cost += f" (q = {best_q})"
            rows.append(f"| {cell} | {rule.value:.2f} | {' | '.join(levels)} | {cost} |")
        return "\n".join([header, "|" + "---|" * (len(values) + 3), *rows])

    def span(self, study: str, arm: str, **wanted: object) -> str:
        """Lowest and highest test accuracy of an arm over cells with these values, per cent."""
        name = f"analytic:{RULE}" if arm == "analytic" else arm
        levels = [
            100 * (c.accuracy.mean or 0.0)
            for c in self._confirmed(study, **wanted)
            if c.arm == name
        ]
        return f"{number(min(levels), 0)} to {number(max(levels), 0)}"

    def level(self, study: str, arm: str, **wanted: object) -> str:
        """Mean test accuracy of an arm of the only cell with these values, per cent."""
        return number(100 * (self.confirmed(study, arm, **wanted).accuracy.mean or 0.0))

    def signature(self, study: str, name: str, arm: str, **wanted: object) -> str:
        """How many networks of an arm show a signature of failure: `12 of 12`."""
        confirmed = self.confirmed(study, arm, **wanted)
        table = self.studies[study].tables["signatures"]
        is_here = (table["cell_id"] == confirmed.cell_id) & (table["arm"] == confirmed.arm)
        ((_, row),) = table[is_here & (table["signature"] == name)].iterrows()
        return f"{row['networks']} of {row['n']}"

    def edges(self) -> tuple[int, int]:
        """Arms whose learning rate lies within 15 % of an end of its range, and all arms.

        Counts the best and the analytic arm of every cell on the common seeds.
        """
        at_edge = total = 0
        for study, analysis in self.studies.items():
            limits = analysis.study.config["search"]["lr"]
            for arm in self._confirmed(study):
                if arm.arm in ("best", f"analytic:{RULE}"):
                    lr = float(arm.rows["lr"].mean())
                    total += 1
                    at_edge += lr < 1.15 * limits["low"] or lr > limits["high"] / 1.15
        return at_edge, total

    def rate(self, study: str, arm: str, **wanted: object) -> float:
        """Learning rate of an arm of the only cell with these values."""
        return float(self.confirmed(study, arm, **wanted).rows["lr"].mean())

    def dynamics(self, study: str, column: str, arm: str, **wanted: object) -> float:
        """A column of the table `dynamics` for an arm: a mean over the common seeds."""
        return float(self._dynamics_row(study, self.confirmed(study, arm, **wanted))[column])

    def _dynamics_row(self, study: str, confirmed: Confirmed) -> pd.Series[Any]:
        table = self.studies[study].tables["dynamics"]
        is_here = (table["cell_id"] == confirmed.cell_id) & (table["arm"] == confirmed.arm)
        ((_, row),) = table[is_here & table["replicate"].isna()].iterrows()
        return row

    def dynamics_table(self, study: str, arms: Iterable[str], **wanted: object) -> str:
        """One row per cell and arm: how the networks learnt, means over the common seeds."""
        header = (
            "| cell | arm | epochs to 90 % of the final accuracy | share of vanishing gradients, "
            "first and last epoch | wrong labels reproduced minus corrected | accuracy lost after "
            "the best epoch |"
        )
        rows = []
        found = self._confirmed(study, **wanted)
        for confirmed in sorted(found, key=lambda c: (c.cell_id, c.arm != "zero")):
            arm = confirmed.arm.replace(f":{RULE}", "")
            if arm not in arms:
                continue
            row = self._dynamics_row(study, confirmed)
            rows.append(
                f"| {cell_text(confirmed.cell_id)} | {ARMS[arm]} | {number(row['epochs_to_90'])} "
                f"| {percent(row['vanishing_first'])} → {percent(row['vanishing_last'])} "
                f"| {percent(row['memorised'])} | {number(100 * row['best_minus_last'])} points |"
            )
        return "\n".join([header, "|" + "---|" * 6, *rows])

    def measured(self, study: str, **wanted: object) -> str:
        """The measured difference of best and analytic arm, without the surface, in points."""
        value = self.cell(study, **wanted).primary_value
        return points(None if value is None else value.measured)

    def duration(self, study: str) -> str:
        """Time from a study's first to its last network."""
        record = self.studies[study].verdict.provenance
        started, finished = (
            dt.datetime.fromisoformat(moment or "")
            for moment in (record.started_utc, record.finished_utc)
        )
        return f"{(finished - started).total_seconds() / 60:.0f} min"

    def slope(self, study: str) -> NoiseSlope:
        """How the best ε of a study's only group of cells moves with the noise rate."""
        (slope,) = self.studies[study].verdict.noise_slopes
        return slope

    def provenance(self, study: str) -> str:
        """Hardware and commit of a study's rows."""
        record = self.studies[study].verdict.provenance
        commits = ", ".join(c[:7] for c in record.git_commit)
        return f"two cores of an AMD EPYC, commit {commits}, {self.duration(study)}"


def arm_name(cell: CellVerdict, arm: str) -> str:
    """The arm as rows name it; `analytic` stands for the arm of the cell's rule."""
    return f"analytic:{cell.rule}" if arm == "analytic" else arm


def _accuracy(cell: CellVerdict, arm: str) -> float:
    return 100 * (cell.accuracy[arm_name(cell, arm)].mean or 0.0)


def _interval(draws: Any) -> tuple[float, float, float]:
    low, middle, high = np.quantile(draws, [0.025, 0.5, 0.975])
    return float(middle), float(low), float(high)
