"""Rules that set a loss's parameter from the number of classes, side by side.

    for row in analytic_rules(100, loss="gce", parameter="q"):
        print(row.rule, row.value)

Every rule makes a network with c classes start as one with 10 classes does. The rules differ in
the quantity that they keep: the mean activation, the mean error, or the mean log-odds of the
labelled class. PyTorch is imported only for losses without a closed δ_k (see `errors`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from trainables.errors import did_you_mean
from trainables.theory.errors import ERRORS, ParameterRange, mean_error, parameters_of
from trainables.theory.logit_bias import (
    ANCHOR_CLASSES,
    ANCHOR_EPSILON,
    anchor_target,
    check_classes,
    shift_epsilon,
    solve_epsilon,
)
from trainables.theory.logits import GaussianLogits, InitialLogits, MeasuredLogits
from trainables.theory.rule_names import RULES as RULES


class NoSolutionError(ValueError):
    """No parameter value satisfies the rule; the message gives the reachable range."""


@dataclass(frozen=True)
class RuleValue:
    """The answer of one rule.

    Attributes:
        rule: a name in `RULES`.
        parameter: `epsilon` or a parameter of the loss.
        value: value of the parameter, or None where the rule has no answer.
        target: value of the quantity that the rule keeps, or None for `shift`.
        formula: of the rule.
        assumption: of the rule.
        note: why there is no answer, else empty.
        others: further solutions, where the quantity is not monotone. `value` is a solution on the
            same branch (rising or falling) as the reference, and the nearest of these.
        standard_error: of the kept quantity, relative to the target; 0 with quadrature.
    """

    rule: str
    parameter: str
    value: float | None
    target: float | None
    formula: str
    assumption: str
    note: str = ""
    others: tuple[float, ...] = field(default=())
    standard_error: float = 0.0


def analytic_rules(
    classes: int,
    *,
    loss: str = "mae",
    parameter: str = "epsilon",
    sigma: float = 1.0,
    measured: MeasuredLogits | float | None = None,
    rules: Sequence[str] | None = None,
    target: float | None = None,
    shift_a: float | None = None,
    reference_classes: int = ANCHOR_CLASSES,
    reference_value: float | None = None,
    params: Mapping[str, float] | None = None,
) -> list[RuleValue]:
    """Value of a parameter for a number of classes by each rule, without training.

    Args:
        classes: number of classes, at least 2.
        loss: a loss of `trainables.losses`, or 'package.module:function'.
        parameter: `epsilon` (the logit bias) or a parameter of the loss.
        sigma: standard deviation of the initial logits, in (0, 100].
        measured: logits of an untrained network on real inputs, or their standard deviation.
            Either adds the rule `activation-measured`; `gradient` uses the logits too.
        rules: names in `RULES`; None for all that apply to the parameter.
        target: mean activation for the `activation` rules, None for `anchor_target()`.
        shift_a: a of the rule `shift`, None for `anchor_log_odds()`.
        reference_classes: number of classes at which the loss is known to work.
        reference_value: the parameter's value there, None for ε = 0.5 or the loss's default.
        params: the loss's other parameters.

    Returns:
        One row per rule. Where `rules` is None, a rule without an answer has the value None and a
        note.

    Raises:
        NoSolutionError: a rule in `rules` has no answer.
        ValueError: an argument is out of range; unknown rule, loss or parameter.
    """
    check_classes(classes)
    check_classes(reference_classes)
    problem = _Problem(loss, parameter, dict(params or {}))
    logits = GaussianLogits(classes, sigma)
    if isinstance(measured, MeasuredLogits) and measured.classes != classes:
        raise ValueError(
            f"measured logits have {measured.classes} classes, but classes = {classes}"
        )
    selected = _applicable(parameter, measured is not None) if rules is None else list(rules)
    _check_rules(selected, parameter, measured is not None)
    if reference_value is None:
        reference_value = ANCHOR_EPSILON if parameter == "epsilon" else problem.range.default

    def gradient() -> RuleValue:
        at: InitialLogits = measured if isinstance(measured, MeasuredLogits) else logits
        reference = GaussianLogits(reference_classes, 1.0)
        return _gradient(problem, at, reference, reference_value)

    def shift() -> RuleValue:
        return _row("shift", parameter, shift_epsilon(classes, shift_a, sigma), None)

    solvers: dict[str, Callable[[], RuleValue]] = {
        "activation": lambda: _activation("activation", logits, target),
        "activation-measured": lambda: _activation(
            "activation-measured",
            measured
            if isinstance(measured, MeasuredLogits)
            else GaussianLogits(classes, float(measured or 0.0)),
            target,
        ),
        "gradient": gradient,
        "shift": shift,
    }
    rows = []
    for rule in selected:
        try:
            rows.append(solvers[rule]())
        except ValueError as error:
            # By default a rule may have no answer; the closed form of `shift` has a limited range.
            optional = rule == "shift" or isinstance(error, NoSolutionError)
            if rules is not None or not optional:
                raise
            rows.append(_row(rule, parameter, None, None, note=str(error)))
    return rows


@dataclass(frozen=True)
class _Problem:
    """A loss with one parameter free."""

    loss: str
    parameter: str
    params: dict[str, float]

    def __post_init__(self) -> None:
        known = self._parameters
        for name in (*self.params, self.parameter):
            if name not in known and name != "epsilon":
                allowed = did_you_mean(name, ["epsilon", *known])
                raise ValueError(f"loss {self.loss} has no parameter {name}{allowed}")
        if self.parameter in self.params:
            raise ValueError(f"parameter {self.parameter} is the unknown and cannot be given")

    @property
    def closed(self) -> bool:
        """Whether δ_k is known in closed form, so that torch is not needed."""
        return self.loss in ERRORS

    @cached_property
    def _parameters(self) -> Mapping[str, ParameterRange]:
        return parameters_of(self.loss)

    @property
    def range(self) -> ParameterRange:
        """Default and ranges of the free parameter, which is not ε."""
        return self._parameters[self.parameter]

    def mean_error(self, logits: InitialLogits, value: float) -> tuple[float, float]:
        """E[δ_k] and its standard error, with the free parameter at `value`."""
        params = dict(self.params)
        epsilon = params.pop("epsilon", 0.0)
        if self.parameter == "epsilon":
            epsilon = value
        else:
            params[self.parameter] = value
        if self.closed:
            return mean_error(self.loss, logits, epsilon, **params), 0.0
        from trainables.theory import sampled  # imports torch

        assert isinstance(logits, GaussianLogits | MeasuredLogits)
        return sampled.mean_error(self.loss, logits, epsilon, params)


def _applicable(parameter: str, measured: bool) -> list[str]:
    if parameter != "epsilon":
        return ["gradient"]
    return [rule for rule in RULES if measured or rule != "activation-measured"]


def _check_rules(rules: Sequence[str], parameter: str, measured: bool) -> None:
    for rule in rules:
        if rule not in RULES:
            raise ValueError(f"unknown rule {rule!r}{did_you_mean(rule, RULES)}")
        if parameter != "epsilon" and rule != "gradient":
            raise ValueError(f"rule {rule} sets epsilon, not {parameter}: use gradient")
        if rule == "activation-measured" and not measured:
            raise ValueError("rule activation-measured needs measured logits or their spread")


def _row(
    rule: str, parameter: str, value: float | None, target: float | None, note: str = ""
) -> RuleValue:
    return RuleValue(rule, parameter, value, target, *RULES[rule], note=note)


def _activation(rule: str, logits: InitialLogits, target: float | None) -> RuleValue:
    target = anchor_target() if target is None else float(target)
    if isinstance(logits, GaussianLogits):
        value = solve_epsilon(logits.classes, target, logits.sigma)
        return _row(rule, "epsilon", value, target)
    if not 0.0 < target < 1.0:
        raise ValueError(f"target = {target:g}: must lie strictly between 0 and 1")
    delta, weights = logits.log_odds(0.0)
    goal = math.log(target) - math.log1p(-target)
    value = brentq(
        lambda epsilon: weights @ expit(delta + epsilon) - target,
        goal - delta.max() - 1.0,
        goal - delta.min() + 1.0,
        xtol=1e-12,
    )
    return _row(rule, "epsilon", float(value), target)


def _gradient(
    problem: _Problem, logits: InitialLogits, reference: GaussianLogits, reference_value: float
) -> RuleValue:
    target, target_error = problem.mean_error(reference, reference_value)
    if problem.parameter == "epsilon":
        # From an ε at which the labelled class has almost no probability to one with almost all.
        low, high = -5.0, math.log(logits.classes) + 15.0
        grid = np.linspace(low, high, 81 if problem.closed else 21)
    else:
        if not problem.range.low < problem.range.high:
            raise ValueError(
                f"parameter {problem.parameter} of loss {problem.loss} is fixed: no rule sets it"
            )
        low, high = problem.range.solution_range
        count = 65 if problem.closed else 13
        grid = np.geomspace(low, high, count) if low > 0 else np.linspace(low, high, count)

    def excess(value: float) -> float:
        return problem.mean_error(logits, float(value))[0] - target

    values = np.array([excess(v) for v in grid])
    solutions = [float(v) for v, f in zip(grid, values, strict=True) if f == 0.0]
    for i in np.flatnonzero(values[:-1] * values[1:] < 0):
        solutions.append(
            float(brentq(excess, grid[i], grid[i + 1], xtol=1e-9 if problem.closed else 1e-5))
        )
    if not solutions:
        raise NoSolutionError(
            f"rule gradient: no {problem.parameter} in [{low:g}, {high:g}] gives loss "
            f"{problem.loss} at {logits.classes} classes a mean initial error of {target:.4g}; "
            f"reachable is [{values.min() + target:.4g}, {values.max() + target:.4g}]"
        )
    step = 1e-3 * max(abs(reference_value), 0.1)

    def slope(at: InitialLogits, value: float) -> float:
        below, above = max(value - step, low), min(value + step, high)
        return problem.mean_error(at, above)[0] - problem.mean_error(at, below)[0]

    rising = slope(reference, reference_value)
    solutions.sort(key=lambda v: (slope(logits, v) * rising <= 0, abs(v - reference_value)))
    error = math.hypot(problem.mean_error(logits, solutions[0])[1], target_error)
    return RuleValue(
        "gradient",
        problem.parameter,
        solutions[0],
        target,
        *RULES["gradient"],
        others=tuple(sorted(solutions[1:])),
        standard_error=error / abs(target) if error else 0.0,
    )
