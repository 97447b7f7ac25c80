"""A loss with its logit bias as a `torch.nn.Module`, for training loops of your own.

criterion = Criterion("mae", classes=1000)
loss = criterion(model(inputs), labels)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainables.errors import did_you_mean
from trainables.losses._evaluate import evaluate, evaluate_every_label
from trainables.losses._from_classes import resolve
from trainables.losses._registry import get
from trainables.losses._schedule_position import SchedulePosition, schedule_position
from trainables.losses._torch import Tensor, torch, use_torch

use_torch()  # now, because torch.compile cannot trace the stand-ins

REDUCTIONS = ("mean", "sum", "none")

_MOST_LOGITS = 2**26
"""Of soft labels at once: 256 MiB in single precision."""


# Asked once: torch.compile of torch 2.11 cannot trace the question.
_AUTOCAST_DEVICES = frozenset(
    kind for kind in ("cpu", "cuda", "xpu", "hpu", "mps") if torch.amp.is_autocast_available(kind)
)


class Criterion(torch.nn.Module):
    """A loss with its logit bias, called like `torch.nn.CrossEntropyLoss`.

    By default ε is computed from the number of classes by the rule `activation`
    (arXiv 2306.05497), for the losses for which a study searches ε; for the others, such as `ce`,
    it is 0. Logits in half precision, and all logits under autocast, are converted to single
    precision first, and the result has single precision.

    Args:
        loss: a registered loss, or 'package.module:function'.
        classes: number of classes, at least 2; may be left out where nothing follows from it.
            If given, logits with another number of classes are refused.
        epsilon: the logit bias ε: a number, a rule (`activation`, `gradient`, `shift`), or None
            for the default.
        preset: a published set of parameter values (docs/losses.md).
        params: parameter of the loss → number, or 'gradient' to compute it from the number of
            classes (ε is then 0 by default); the others keep the values of the preset, or their
            defaults.
        schedule: a name in `EPSILON_SCHEDULES`: the factor of ε as training proceeds.
        steps: number of training steps of the schedule; the caller calls `step()` after each.
        reduction: `mean` (divided by the sum of the examples' class weights), `sum` or `none`.
        weight: a weight per class, shape [classes], or None.
        ignore_index: examples with this label count neither in the loss nor in the mean.

    Attributes:
        loss: name of the loss.
        classes: number of classes, or None.
        initial_epsilon: ε before the schedule's factor.
        params: value of every parameter of the loss.
        rules: `epsilon` or parameter → the rule that computed it.
        weight_l1: coefficient of ‖θ‖₁ that the preset adds to the mean loss; `forward` then needs
            the network's parameters, except in evaluation mode (`eval()`), where it is left out.
        weight: class weights, a buffer; or None.
        schedule: position in the schedule, a module with a state; None where ε is constant.

    Raises:
        ValueError: an argument is unknown or out of range; the message says what is allowed.

    Example:
        >>> import torch
        >>> from trainables.losses import Criterion
        >>> criterion = Criterion("mae", classes=100)
        >>> criterion
        Criterion('mae', classes=100, epsilon=3.01 (rule activation), scale=1, reduction='mean')
        >>> round(criterion(torch.zeros(8, 100), torch.arange(8)).item(), 2)
        0.83
    """

    weight: Tensor | None
    schedule: SchedulePosition | None

    def __init__(
        self,
        loss: str,
        classes: int | None = None,
        *,
        epsilon: float | str | None = None,
        preset: str | None = None,
        params: Mapping[str, float | str] | None = None,
        schedule: str = "constant",
        steps: int | None = None,
        reduction: str = "mean",
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"unknown reduction {reduction!r}{did_you_mean(reduction, REDUCTIONS)}"
            )
        self._definition = get(loss)
        settings = resolve(self._definition, classes, epsilon, preset, params or {})
        presets = {p.name: p for p in self._definition.presets}
        self.loss = loss
        self.classes = None if classes is None else int(classes)
        self.initial_epsilon = settings.epsilon
        self.params = settings.params
        self.rules = settings.rules
        self.preset = preset
        self.weight_l1 = 0.0 if preset is None else presets[preset].weight_l1
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.schedule = schedule_position(schedule, steps)
        if self.weight_l1 and reduction != "mean":
            raise ValueError(
                f"preset {preset} of loss {loss} adds {self.weight_l1:g} ‖θ‖₁ to the mean loss: "
                f"reduction must be 'mean', not {reduction!r}"
            )
        self.register_buffer("weight", _class_weights(weight, self.classes))

    @property
    def epsilon(self) -> float:
        """The present logit bias ε."""
        return self.initial_epsilon * (1.0 if self.schedule is None else self.schedule.factor)

    def step(self) -> None:
        """Count one training step of the schedule; nothing happens where ε is constant."""
        if self.schedule is not None:
            self.schedule.step()

    def forward(
        self, logits: Tensor, labels: Tensor, *, parameters: Iterable[Tensor] | None = None
    ) -> Tensor:
        """Loss of a batch.

        Args:
            logits: shape [batch, classes], [batch, classes, d1, …] or [classes], without the logit
                bias.
            labels: class indices, integers of the logits' shape without the classes; or soft
                labels, floats of the logits' shape: the loss is then Σ_k t_k L(z + ε e_k, k).
            parameters: the network's parameters; only a preset with `weight_l1` uses them.

        Returns:
            Shape [], or with the reduction `none` the shape of class indices. Single precision for
            logits in half precision.

        Raises:
            TypeError: an argument is not a tensor of the right type.
            ValueError: the shapes do not fit, or the loss has no meaning for these labels.
            IndexError: a label is not a class (checked on the CPU only).
        """
        return self._with_l1(self._in_full_precision(logits, labels), parameters)

    def mixup(
        self,
        logits: Tensor,
        labels: Tensor,
        other_labels: Tensor,
        share: float,
        *,
        parameters: Iterable[Tensor] | None = None,
    ) -> Tensor:
        """Loss of a batch of mixed inputs: share · loss(labels) + (1 − share) · loss(other_labels).

        Every loss allows this.

        Args:
            logits: as in `forward`, for inputs share · x + (1 − share) · x′.
            labels: labels of x, as in `forward`.
            other_labels: labels of x′.
            share: in [0, 1].
            parameters: as in `forward`.

        Returns:
            As `forward`.

        Raises:
            ValueError: `share` is outside [0, 1]; else as `forward`.
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share = {share:g}: must lie in [0, 1]")
        first = self._in_full_precision(logits, labels)
        second = self._in_full_precision(logits, other_labels)
        return self._with_l1(share * first + (1.0 - share) * second, parameters)

    def extra_repr(self) -> str:
        """The settings, and where ε and the parameters come from."""
        parts = [repr(self.loss)]
        if self.classes is not None:
            parts.append(f"classes={self.classes}")
        parts.append(self._shown("epsilon", self.initial_epsilon))
        if self.preset is not None:
            parts.append(f"preset={self.preset!r}")
        parts += [self._shown(name, value) for name, value in self.params.items()]
        if self.weight_l1:
            parts.append(f"weight_l1={self.weight_l1:g}")
        if self.weight is not None:
            parts.append("weight=…")
        if self.ignore_index != -100:
            parts.append(f"ignore_index={self.ignore_index}")
        return ", ".join([*parts, f"reduction={self.reduction!r}"])

    def __getstate__(self) -> dict[str, Any]:
        # A registered function cannot be pickled; its name can.
        return {name: value for name, value in self.__dict__.items() if name != "_definition"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._definition = get(self.loss)

    def _shown(self, name: str, value: float) -> str:
        rule = self.rules.get(name)
        return f"{name}={value:.4g}" + (f" (rule {rule})" if rule else "")

    def _in_full_precision(self, logits: Tensor, labels: Tensor) -> Tensor:
        for name, argument in (("logits", logits), ("labels", labels)):
            if not isinstance(argument, Tensor):
                raise TypeError(f"{name} must be a tensor, not {type(argument).__name__}")
        if not logits.is_floating_point():
            raise TypeError(
                f"logits of dtype {logits.dtype}: must be floats; the order is (logits, labels)"
            )
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        device = logits.device.type
        if device in _AUTOCAST_DEVICES and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self._reduced(logits, labels)
        return self._reduced(logits, labels)

    def _reduced(self, logits: Tensor, labels: Tensor) -> Tensor:
        class_axis = 0 if logits.ndim == 1 else 1
        self._check_shapes(logits, labels, class_axis)
        flat = logits.movedim(class_axis, -1).reshape(-1, logits.shape[class_axis])
        weight = None if self.weight is None else self.weight.to(flat.dtype)
        shape = logits.select(class_axis, 0).shape
        divisor: float | Tensor
        if labels.is_floating_point():
            soft = labels.movedim(class_axis, -1).reshape(flat.shape).to(flat.dtype)
            values = self._of_soft_labels(flat, soft if weight is None else soft * weight)
            divisor = float(values.shape[0])
        else:
            indices = labels.reshape(-1).long()
            ignored = indices == self.ignore_index
            indices = indices.masked_fill(ignored, 0)
            values = self._of_indices(flat, indices).masked_fill(ignored, 0.0)
            divisor = (~ignored).sum()
            if weight is not None:
                counted = weight[indices].masked_fill(ignored, 0.0)
                values, divisor = values * counted, counted.sum()
        if self.reduction == "none":
            return values.reshape(shape)
        return values.sum() / divisor if self.reduction == "mean" else values.sum()

    def _of_indices(self, logits: Tensor, indices: Tensor) -> Tensor:
        """Values [batch] for logits [batch, classes]."""
        if torch.compiler.is_compiling():
            return evaluate(self._definition, logits, indices, self._bias(), **self.params)
        try:
            values = evaluate(self._definition, logits, indices, self._bias(), **self.params)
        except (IndexError, RuntimeError):
            _refuse_wrong_indices(indices, logits.shape[-1], self.ignore_index)
            raise
        if values.shape != indices.shape:
            raise ValueError(
                f"loss {self.loss}: values of shape {tuple(values.shape)} instead of one per "
                f"example, {tuple(indices.shape)}: a loss must not reduce"
            )
        return values

    def _of_soft_labels(self, logits: Tensor, soft: Tensor) -> Tensor:
        """Values [batch] for logits and soft labels [batch, classes]."""
        loss, (examples, classes) = self._definition, logits.shape
        if loss.of_distribution:
            raise ValueError(
                f"loss {self.loss} has no soft labels here: for a label distribution t its source "
                f"defines {loss.of_distribution}, which is not the mean over the labels; for two "
                "labels per example use mixup(…)"
            )
        if self.ignore_index >= 0:
            raise ValueError(f"ignore_index = {self.ignore_index} has no meaning for soft labels")
        if not loss.of_probability and examples * classes**2 > _MOST_LOGITS:
            raise ValueError(
                f"soft labels of loss {self.loss} need {examples} × {classes} × {classes} logits, "
                f"allowed are {_MOST_LOGITS}: use smaller batches, for two labels per example "
                "mixup(…), or a loss of p alone (flag P in docs/losses.md)"
            )
        return (soft * evaluate_every_label(loss, logits, self._bias(), **self.params)).sum(-1)

    def _bias(self) -> float | Tensor:
        """ε as a number; a tensor where a compiled program must follow its changes."""
        if self.schedule is not None and torch.compiler.is_compiling():
            return self.initial_epsilon * self.schedule.factor_tensor
        return self.epsilon

    def _with_l1(self, loss: Tensor, parameters: Iterable[Tensor] | None) -> Tensor:
        if not self.weight_l1 or not self.training:
            return loss
        if parameters is None:
            raise ValueError(
                f"preset {self.preset} of loss {self.loss} adds {self.weight_l1:g} ‖θ‖₁: give "
                "parameters=model.parameters() in training; criterion.eval() leaves the term out"
            )
        for parameter in parameters:
            loss = loss + self.weight_l1 * parameter.abs().sum()
        return loss

    def _check_shapes(self, logits: Tensor, labels: Tensor, class_axis: int) -> None:
        if logits.ndim == 0:
            raise ValueError("logits of shape (): must be [batch, classes, …] or [classes]")
        classes = logits.shape[class_axis]
        for what, expected in (
            ("the criterion", self.classes),
            ("weight", None if self.weight is None else len(self.weight)),
        ):
            if expected is not None and classes != expected:
                raise ValueError(
                    f"logits of shape {tuple(logits.shape)} have {classes} classes, {what} has "
                    f"{expected}: logits must be [batch, classes, …] or [classes]"
                )
        of_indices = (*logits.shape[:class_axis], *logits.shape[class_axis + 1 :])
        soft = labels.is_floating_point()
        if labels.dtype == torch.bool or labels.is_complex():
            raise TypeError(f"labels of dtype {labels.dtype}: must be integers, or floats (soft)")
        if tuple(labels.shape) != (tuple(logits.shape) if soft else of_indices):
            raise ValueError(
                f"{'soft' if soft else 'integer'} labels of shape {tuple(labels.shape)} do not fit "
                f"logits of shape {tuple(logits.shape)}: must be {of_indices} for integers, "
                f"{tuple(logits.shape)} for floats (soft labels)"
            )


def _class_weights(weight: Tensor | Sequence[float] | None, classes: int | None) -> Tensor | None:
    if weight is None:
        return None
    tensor = weight if isinstance(weight, Tensor) else torch.tensor(weight, dtype=torch.float32)
    if tensor.ndim != 1 or (classes is not None and len(tensor) != classes):
        allowed = "[classes]" if classes is None else f"[{classes}]"
        raise ValueError(f"weight of shape {list(tensor.shape)}: must be {allowed}")
    return tensor


def _refuse_wrong_indices(indices: Tensor, classes: int, ignore_index: int) -> None:
    if indices.device.type != "cpu" or not len(indices):
        return
    for label in (int(indices.min()), int(indices.max())):
        if not 0 <= label < classes:
            raise IndexError(
                f"label {label}: must be 0 to {classes - 1}, or ignore_index = {ignore_index}"
            )
