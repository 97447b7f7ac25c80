"""The settings of a criterion: ε and the loss's parameters, given or computed from the classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real

from trainables.errors import did_you_mean
from trainables.losses._registry import Loss
from trainables.theory.logit_bias import check_classes
from trainables.theory.rules import RULES, analytic_rules

_PAPER_RULE = "activation"
_PARAMETER_RULE = "gradient"
_MEASURED_RULE = "activation-measured"


@dataclass(frozen=True)
class Settings:
    """What a criterion evaluates its loss with.

    Attributes:
        epsilon: the logit bias ε.
        params: value of every parameter of the loss.
        rules: `epsilon` or parameter → the rule that computed it.
    """

    epsilon: float
    params: dict[str, float]
    rules: dict[str, str]


def resolve(
    loss: Loss,
    classes: int | None,
    epsilon: float | str | None,
    preset: str | None,
    params: Mapping[str, float | str],
) -> Settings:
    """Compute the settings of a criterion.

    Args:
        loss: the loss.
        classes: number of classes; None where nothing is computed from it.
        epsilon: ε, a rule, or None for the default: the paper's rule where a study searches ε for
            the loss and no parameter follows from the classes, else 0.
        preset: published parameter values, or None.
        params: parameter → value, or the rule `gradient`; they take precedence over the preset.

    Returns:
        The settings.

    Raises:
        ValueError: unknown preset, parameter or rule; a value outside its domain; a rule without
            `classes` or without an answer; more than one unknown of the rule `gradient`.
    """
    if classes is not None:
        if not isinstance(classes, Integral):
            raise ValueError(f"classes = {classes!r}: must be an integer of at least 2")
        check_classes(classes)
    for name in params:
        if name not in loss.defaults:
            loss.check(**{name: math.nan})  # raises with the names that are allowed
    values: dict[str, float | str] = {
        "epsilon": _default_epsilon(loss, params) if epsilon is None else epsilon
    }
    values |= {} if preset is None else loss.preset(preset)
    values |= params
    for name, value in values.items():
        if isinstance(value, str):
            _check_rule(loss, name, value)
    rules = {name: value for name, value in values.items() if isinstance(value, str)}
    numbers = {name: _number(loss, name, v) for name, v in values.items() if not isinstance(v, str)}
    bias = numbers.pop("epsilon", 0.0)
    checked = loss.check(**numbers)
    if len(rules) > 1:
        raise ValueError(
            f"loss {loss.name}: {' and '.join(rules)} cannot all follow from the number of "
            "classes: give numbers for all but one"
        )
    for name, rule in rules.items():
        if classes is None:
            raise ValueError(
                f"loss {loss.name}: {name} follows from the number of classes: give classes=…, "
                f"or {name} as a number"
            )
        others = {other: value for other, value in checked.items() if other != name}
        if name != "epsilon":
            others["epsilon"] = bias
        (row,) = analytic_rules(
            classes, loss=loss.name, parameter=name, rules=[rule], params=others
        )
        assert row.value is not None  # a rule that is named has an answer or raises
        if name == "epsilon":
            bias = row.value
        else:
            checked[name] = row.value
    return Settings(bias, loss.check(**checked), rules)


def _default_epsilon(loss: Loss, params: Mapping[str, float | str]) -> float | str:
    """The paper's rule, unless no study searches ε or a parameter takes its place."""
    a_rule_sets_a_parameter = any(isinstance(value, str) for value in params.values())
    return _PAPER_RULE if loss.searches_epsilon and not a_rule_sets_a_parameter else 0.0


def _check_rule(loss: Loss, name: str, rule: str) -> None:
    if name != "epsilon" and rule != _PARAMETER_RULE:
        raise ValueError(
            f"loss {loss.name}: {name} = {rule!r}: must be a number or {_PARAMETER_RULE!r}"
        )
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r} for epsilon{did_you_mean(rule, RULES)}")
    if rule == _MEASURED_RULE:
        raise ValueError(
            f"rule {_MEASURED_RULE} needs the logits of your untrained network: compute ε with "
            "trainables.theory.rules.analytic_rules(…, measured=…), and give the number"
        )


def _number(loss: Loss, name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"loss {loss.name}: {name} = {value!r}: must be a finite number or a rule")
    return float(value)
