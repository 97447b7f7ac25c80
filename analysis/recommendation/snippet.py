"""Python code that trains with a recommended setting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from analysis.recommendation.records import Setting
from study.results.arms import CE

_SHOWN = {  # and keys that do not change the numbers of a network
    *("epochs", "batch_size", "optimizer", "momentum", "nesterov", "weight_decay"),
    *("deterministic", "compile"),
}


def snippet(setting: Setting, classes: int, config: Mapping[str, Any]) -> str:
    """Code for a PyTorch training loop: criterion, optimiser, schedule.

    Args:
        setting: loss, ε and learning rate.
        classes: number of classes.
        config: the study file as run; its recipe belongs to the learning rate.
    """
    recipe = config.get("recipe")
    recipe = recipe if isinstance(recipe, dict) else {}
    if setting.loss == CE and not setting.params:
        lines = ["import torch", "", "criterion = torch.nn.CrossEntropyLoss()"]
    else:
        lines = ["import torch", "from trainables.losses import Criterion", ""]
        lines.append(f"criterion = Criterion({_arguments(setting, classes)})")
    lines.append(f"optimizer = {_optimizer(setting.lr, recipe)}")
    epochs, batch_size = (_whole_number(recipe.get(key)) for key in ("epochs", "batch_size"))
    if epochs is not None and recipe.get("schedule", "cosine") == "cosine":
        lines.append(
            "schedule = torch.optim.lr_scheduler.CosineAnnealingLR("
            f"optimizer, {epochs} * steps_per_epoch)"
        )
    if epochs is not None and batch_size is not None:
        lines.append(f"# {epochs} epochs, batches of {batch_size}; in each step:")
    lines.append("loss = criterion(model(inputs), labels)")
    if others := _not_shown(recipe):
        # In JSON, because a line break in a value would end the comment.
        lines.append(f"# the study's recipe also has {json.dumps(others, default=str)}")
    return "\n".join(lines)


def _whole_number(value: Any) -> int | None:
    """A number of the study file; None for anything else, which must not get into code."""
    return value if isinstance(value, int) else None


def _not_shown(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What else of a recipe changes the numbers of a network."""
    others = {name: value for name, value in recipe.items() if name not in _SHOWN and value}
    if others.get("schedule", "cosine") in ("cosine", "constant"):
        for name in ("schedule", "milestones", "gamma"):
            others.pop(name, None)
    if others.get("epsilon_schedule") == "constant":
        del others["epsilon_schedule"]
    if others.get("precision") == "float32":
        del others["precision"]
    return others


def _arguments(setting: Setting, classes: int) -> str:
    parts = [json.dumps(setting.loss), f"classes={classes}", f"epsilon={setting.epsilon:.6g}"]
    if setting.preset is not None:
        parts.append(f"preset={json.dumps(setting.preset)}")
    elif setting.params:
        parts.append(f"params={setting.params!r}")
    return ", ".join(parts)


def _optimizer(lr: float, recipe: Mapping[str, Any]) -> str:
    decay = recipe.get("weight_decay", 0.0)
    end = f", weight_decay={decay:g}" if decay else ""
    if recipe.get("optimizer", "sgd") == "adamw":
        return f"torch.optim.AdamW(model.parameters(), lr={lr:.3g}, weight_decay={decay:g})"
    momentum = recipe.get("momentum", 0.9)
    nesterov = ", nesterov=True" if recipe.get("nesterov") else ""
    return f"torch.optim.SGD(model.parameters(), lr={lr:.3g}, momentum={momentum:g}{nesterov}{end})"
