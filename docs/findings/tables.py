"""The tables of the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from questions import HERE, RULE, Confirmed, Findings
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
from trainables.theory.rules import analytic_rules

_WEIGHTS = {"nce_agce": {"alpha": 1.0, "beta": 4.0}, "nfl_mae": {"alpha": 1.0, "beta": 1.0}}
_ORIGIN = {
    ("nce_agce", 1.0, 4.0): "10 classes, published",
    ("nce_agce", 64.0, 4.0): "rule for 30 classes, α",
    ("nce_agce", 380.0, 4.0): "rule for 100 classes, α",
    ("nce_agce", 1.0, 34.7): "rule for 100 classes, β",
    ("nce_agce", 10.0, 0.1): "100 classes, published, with other a and q",
    ("nfl_mae", 1.0, 1.0): "10 classes, published",
    ("nfl_mae", 9.8, 1.0): "rule for 30 classes, α; 100 classes, published (10)",
    ("nfl_mae", 54.0, 1.0): "rule for 100 classes, α",
    ("nfl_mae", 1.0, 11.7): "rule for 100 classes, β",
}
"""{(loss, α, β): where they come from}. The rule `gradient` needs torch for these losses; its
answers are those of `logit-bias epsilon --classes 100 --loss nce_agce --parameter alpha`."""


class Page(Findings):
    """The analysed studies of this folder, and the tables that the template asks of them."""

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

    def repeat_table(self) -> str:
        """One row per cell that was trained again on another machine (`repeat.py`)."""
        header = (
            "| study | cell | here: cost of analytic ε (90 %), accuracy, verdict | repeated: the "
            "same |"
        )
        rows = []
        for study, repeated in self._repeated["studies"].items():
            for cell in self.cells(study):
                again = repeated["cells"][cell.cell_id]
                first = f"| `{study}` | {cell_text(cell.cell_id)} "
                here = self._in_short(
                    cell.primary_value,
                    cell.accuracy[f"analytic:{cell.rule}"].mean or 0.0,
                    cell.verdict.value,
                )
                cost = SimpleNamespace(**again["cost"])
                there = self._in_short(cost, again["accuracy"], again["verdict"])
                rows.append(f"{first}| {here} | {there} |")
        return "\n".join([header, "|" + "---|" * 4, *rows])

    def same_verdicts(self) -> str:
        """In how many cells a repetition has the verdict of the first study: `11 of 11`."""
        same = [again["verdict"] == cell.verdict.value for cell, again in self._pairs()]
        return f"{sum(same)} of {len(same)}"

    def costs_inside(self) -> str:
        """In how many cells the repeated cost lies inside the first interval: `11 of 11`."""
        pairs = [(cell.primary_value, again["cost"]["mean"]) for cell, again in self._pairs()]
        inside = [v.low <= mean <= v.high for v, mean in pairs if v and None not in (v.low, v.high)]
        return f"{sum(inside)} of {len(pairs)}"

    def _pairs(self) -> Iterator[tuple[CellVerdict, Any]]:
        for study, repeated in self._repeated["studies"].items():
            for cell in self.cells(study):
                yield cell, repeated["cells"][cell.cell_id]

    def repeat_origin(self) -> str:
        """Machine and commits of the repetitions."""
        kept = self._repeated
        commits = sorted({c for study in kept["studies"].values() for c in study["commits"]})
        return f"{kept['machine']}, commit {', '.join(commits)}"

    @property
    def _repeated(self) -> Any:
        return json.loads((HERE / "repeated.json").read_text())

    @staticmethod
    def _in_short(cost: Any, accuracy: float, verdict: str) -> str:
        return f"{points(cost)}, {number(100 * accuracy)} %, {words(verdict)}"

    def rule_table(self, study: str, rules: Sequence[str], baseline: tuple[str, str]) -> str:
        """One row per model: the ε of each rule, the best one, and what each rule costs.

        Args:
            study: the study; its cells differ in the model alone.
            rules: the rules, in the order of the columns.
            baseline: (study, cell id) of the model that the others are compared with.
        """
        columns = [
            *("model", "spread of the initial logits"),
            *(f"ε by {rule}" for rule in rules),
            "best ε (95 %)",
            *(f"cost of {rule} (90 %)" for rule in rules),
        ]
        (base,) = (c for c in self.cells(baseline[0]) if c.cell_id == baseline[1])
        rows = []
        for name, cell in ((baseline[0], base), *((study, c) for c in self.cells(study))):
            of_rule = cell.epsilon_analytic
            trials = self.studies[name].study.trials
            spread = trials.loc[trials["cell_id"] == cell.cell_id, "logit_std_init"].mean()
            text = f"{model(cell)} (`{name}`)" if cell is base else model(cell)
            rows.append(
                [
                    text,
                    number(float(spread)),
                    *(f"{of_rule[rule]:.2f}" if rule in of_rule else "–" for rule in rules),
                    best(cell),
                    *(points(cell.value.get(rule)) for rule in rules),
                ]
            )
        lines = [columns, ["---"] * len(columns), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def loss_table(self, study: str, dataset: str) -> str:
        """One row per loss on a data set: test accuracy at ε = 0, at analytic and at tuned ε."""
        header = "| loss | ε = 0 | analytic ε | tuned ε |"
        cells: dict[str, dict[str, Confirmed]] = {}
        for confirmed in self.arms_of(study, dataset=dataset):
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
            "| schedule of ε | learning rates searched | learning rate chosen "
            "| test accuracy (90 %) | minus constant ε (90 %) | accuracy lost after the best "
            "epoch | wrong labels reproduced minus corrected |"
        )
        base = self.confirmed(constant, "analytic", **wanted)
        rows = []
        for study in (constant, *schedules):
            arm = self.confirmed(study, "analytic", **wanted)
            row = self.dynamics_row(study, arm)
            name = "constant" if study == constant else study.removeprefix("annealed-")
            gain = "–" if study == constant else points(self.gain(arm, base))
            rows.append(
                f"| {name} | {self.rates(study)} | {self.rate_text(study, 'analytic', **wanted)} "
                f"| {points(arm.accuracy)} | {gain} "
                f"| {number(100 * row['best_minus_last'])} points | {percent(row['memorised'])} |"
            )
        return "\n".join([header, "|" + "---|" * 7, *rows])

    def weights_table(self, study: str) -> str:
        """One row per loss and weights: test accuracy at ε = 0 and at analytic ε by class count."""
        cells: dict[tuple[str, str], dict[tuple[int, str], Confirmed]] = {}
        for arm in self.arms_of(study):
            key = arm.loss, arm.cell_id.rpartition("/")[2]
            cells.setdefault(key, {})[arm.classes, arm.arm] = arm
        counts = sorted({classes for arms in cells.values() for classes, _ in arms})
        arms = {"zero": "ε = 0", f"analytic:{RULE}": "analytic ε"}
        header = ["loss", "α", "β", "weights of"]
        header += [f"{n} classes, {text}" for text in arms.values() for n in counts]
        rows = [header, ["---"] * len(header)]

        def weights(loss: str, found: dict[tuple[int, str], Confirmed]) -> tuple[float, float]:
            params = {**_WEIGHTS[loss], **next(iter(found.values())).params}
            return params["alpha"], params["beta"]

        lines = [(loss, *weights(loss, found), found) for (loss, _), found in cells.items()]
        for loss, alpha, beta, found in sorted(
            lines, key=lambda line: (line[0], line[1] / line[2])
        ):
            origin = _ORIGIN.get((loss, alpha, beta), "–")
            levels = [points(found[n, arm].accuracy) for arm in arms for n in counts]
            rows.append([loss, f"{alpha:g}", f"{beta:g}", origin, *levels])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def q_table(self, study: str) -> str:
        """One row per class count and noise: what q does without ε, and what the rule's q costs."""
        found = [c for c in self.arms_of(study) if c.arm == "zero"]
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

    def dynamics_table(self, study: str, arms: Iterable[str], **wanted: object) -> str:
        """One row per cell and arm: how the networks learnt, means over the common seeds."""
        header = (
            "| cell | arm | epochs to 90 % of the final accuracy | share of vanishing gradients, "
            "first and last epoch | wrong labels reproduced minus corrected | accuracy lost after "
            "the best epoch |"
        )
        rows = []
        found = self.arms_of(study, **wanted)
        for confirmed in sorted(found, key=lambda c: (c.cell_id, c.arm != "zero")):
            arm = confirmed.arm.replace(f":{RULE}", "")
            if arm not in arms:
                continue
            row = self.dynamics_row(study, confirmed)
            rows.append(
                f"| {cell_text(confirmed.cell_id)} | {ARMS[arm]} | {number(row['epochs_to_90'])} "
                f"| {percent(row['vanishing_first'])} → {percent(row['vanishing_last'])} "
                f"| {percent(row['memorised'])} | {number(100 * row['best_minus_last'])} points |"
            )
        return "\n".join([header, "|" + "---|" * 6, *rows])
