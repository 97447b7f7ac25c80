"""A cohort in training, epoch by epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from trainables import models
from trainables.datasets import Dataset
from trainables.engine.cohort_losses import CohortLosses, loss_key
from trainables.engine.data import CohortData
from trainables.engine.fixed_batches import fixed_batches
from trainables.engine.metrics import EpochDynamics, accuracy, is_right
from trainables.engine.optimizers import lr_factor, make_optimizer, norms
from trainables.engine.recorded_evaluation import RecordedEvaluation
from trainables.engine.recorded_steps import RecordedSteps
from trainables.engine.results import EpochMetrics, MemberResult, TrialMetrics
from trainables.engine.runtime import check_precision
from trainables.engine.spec import CohortSpec, Member, Rung
from trainables.engine.step import EagerSteps, ScheduleFactors, TrainingStep
from trainables.engine.successive_halving import survivors
from trainables.losses.schedules import epsilon_factor
from trainables.stacking import StackedModel, stack
from trainables.status import Status

DIVERGED_GROWTH = 1e3
"""A network has diverged when its loss, a parameter or a running statistic is not finite, or when
the norm of its parameters has grown by more than this factor since initialisation. (A bounded loss
has no gradient left after one step with far too large a learning rate: nothing overflows, but the
network no longer learns.)"""

_EVALUATED_AT_ONCE = 500_000  # numbers of a CPU's input batch; larger ones are not faster
_INIT_EXAMPLES = 256  # training examples on which the spread of the initial logits is measured

State = dict[str, Any]
"""A cohort in training as plain data and CPU tensors."""


class CohortRun:
    """A cohort in training. Members are sorted by loss, so that each loss is one slice.

    Args:
        spec: the cohort.
        device: where it trains.
        dtype: type of parameters and losses.

    Attributes:
        members: the members that still train, sorted by loss.
        history: the epochs of each member of `members` so far.
        diverged: whether each member of `members` has diverged.
        epoch: number of epochs trained.
    """

    def __init__(self, spec: CohortSpec, device: torch.device, dtype: torch.dtype) -> None:
        check_precision(spec.recipe.precision, str(device))
        self.spec, self.device, self.dtype = spec, device, dtype
        self.members = sorted(spec.members, key=loss_key)
        self.data = CohortData(spec, self.members, device, dtype)
        self.classes = self.data.dataset.classes
        self.model = _initial_model(spec, self.members, self.data.dataset).to(device, dtype)
        if device.type == "cuda":
            self.model.store_filters_channels_last()
        self.model.compiles = spec.recipe.compile and device.type == "cuda"
        self.optimizer = make_optimizer(
            spec.recipe,
            _trained_parameters(self.model),
            self._per_member([m.lr for m in self.members]),
            self._per_member([m.weight_decay for m in self.members]),
            self._per_member([m.weight_l1 for m in self.members]),
        )
        self.losses = CohortLosses(self.members, self.classes, device, dtype)
        self._steps, self._evaluate = self._new_steps()
        self.initial_norm = norms(list(self.model.parameters())).detach()
        self.logit_std_init = self._logit_std()
        self.epoch = 0
        self.history: list[list[EpochMetrics]] = [[] for _ in self.members]
        self.diverged = [False] * len(self.members)
        # whether each member of `members` is right on each test example, since the last epoch
        self._test_right: torch.Tensor | None = None
        self._results: dict[str, MemberResult] = {}
        input_size = math.prod(self.data.dataset.input_shape)
        self._evaluation_batch = max(spec.recipe.batch_size, _EVALUATED_AT_ONCE // input_size)
        if device.type == "cuda":  # a few large kernels; needs less memory than a training step
            self._evaluation_batch = 4 * spec.recipe.batch_size

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is trained."""
        return self.epoch >= self.spec.recipe.epochs

    @np.errstate(all="ignore")  # a diverged member overflows; its loss shows that
    def train_epoch(self) -> None:
        """Train on all examples once, evaluate, record, and prune if a rung follows this epoch."""
        started = time.perf_counter()
        self.epoch += 1
        training = self._train()
        self._append_metrics(training, started)
        for rung in self.spec.rungs:
            if rung.epoch == self.epoch and not self.is_done:
                self._prune(rung)

    def results(self) -> list[MemberResult]:
        """One result per member, in the order of the spec."""
        for k in range(len(self.members)):
            self._end(k, Status.DIVERGED if self.diverged[k] else Status.COMPLETE)
        return [self._results[member.network_id] for member in self.spec.members]

    def state(self) -> State:
        """Everything that the rest of training depends on."""
        return {
            "network_ids": [m.network_id for m in self.members],
            "model": {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()},
            "moments": [[m.cpu().clone() for m in moments] for moments in self.optimizer.state],
            "steps": self.optimizer.steps,
            "epoch": self.epoch,
            "history": [[metrics.to_row() for metrics in epochs] for epochs in self.history],
            "diverged": list(self.diverged),
            "test_right": None if self._test_right is None else self._test_right.cpu().clone(),
            "results": [result.to_state() for result in self._results.values()],
        }

    def load_state(self, state: State) -> None:
        """Continue from a saved state.

        Args:
            state: `state()` of a run with the same spec.
        """
        index = {m.network_id: k for k, m in enumerate(self.members)}
        kept = [index[network_id] for network_id in state["network_ids"]]
        if len(kept) < len(self.members):
            self._select(kept)
        self.model.load_state_dict(state["model"])
        moved = [[m.to(self.device) for m in moments] for moments in state["moments"]]
        self.optimizer.state = moved
        self.optimizer.steps, self.epoch = state["steps"], state["epoch"]
        results = [MemberResult.from_state(result) for result in state["results"]]
        self._results = {result.network_id: result for result in results}
        self.history = [[EpochMetrics(**row) for row in rows] for rows in state["history"]]
        self.diverged = list(state["diverged"])
        right = state["test_right"]
        self._test_right = None if right is None else right.to(self.device)
        # A recorded step would use the replaced moments.
        self._steps, self._evaluate = self._new_steps()

    def try_steps(self, steps: int, ends_epoch: bool = False) -> int:
        """Train for a few steps to measure time or memory; the run cannot be used afterwards.

        Args:
            steps: number of steps, at most one epoch.
            ends_epoch: whether the last of them is treated as the last step of an epoch.

        Returns:
            the number of steps in an epoch.
        """
        self.epoch = 1
        self._train(last_step=steps - 1, ends_epoch=ends_epoch)
        return len(self.data.sizes(self.spec.recipe.batch_size))

    def _train(
        self, last_step: int | None = None, ends_epoch: bool = False
    ) -> dict[str, list[float]]:
        recipe = self.spec.recipe
        per_epoch = len(self.data.sizes(recipe.batch_size))
        total, done = per_epoch * recipe.epochs, (self.epoch - 1) * per_epoch
        last = per_epoch - 1 if last_step is None else min(last_step, per_epoch - 1)
        factors = [
            ScheduleFactors(
                epsilon_factor(recipe.epsilon_schedule, (done + step) / total),
                lr_factor(recipe, done + step, total, per_epoch),
                is_last=step == per_epoch - 1 or (ends_epoch and step == last),
            )
            for step in range(last + 1)
        ]
        dynamics = EpochDynamics(self.losses.largest_delta)
        grad_norm = torch.zeros_like(self.optimizer.lr)
        self.model.train()
        for result in self._steps.run(self.epoch, factors):
            dynamics.add(result.observed)
            if result.grad_norm is not None:
                grad_norm = result.grad_norm
        return {
            **dynamics.means(),
            "lr": (self.optimizer.lr * factors[-1].lr_factor).tolist(),
            "grad_norm": grad_norm.tolist(),
        }

    def _append_metrics(self, training: dict[str, list[float]], started: float) -> None:
        self.model.eval()
        columns = dict(training)
        at_once = self._evaluation_batch
        columns["val_acc_noisy"], columns["val_acc_clean"] = accuracy(
            self._evaluate,
            self.data.val_inputs,
            [self.data.val_noisy, self.data.val_clean],
            at_once,
        )
        columns["test_acc"] = [math.nan] * len(self.members)
        if self.spec.reads_test:
            labels = self.data.test_labels
            self._test_right = is_right(self._evaluate, self.data.test_inputs, labels, at_once)
            right = self._test_right.sum(-1)
            columns["test_acc"] = (right.double() / len(labels)).tolist()
        growth = (norms(list(self.model.parameters())) / self.initial_norm).tolist()
        finite = self._finite_statistics()
        wall_s = time.perf_counter() - started
        for k, epochs in enumerate(self.history):
            values = {name: column[k] for name, column in columns.items()}
            self.diverged[k] |= not (
                math.isfinite(values["train_loss"]) and growth[k] <= DIVERGED_GROWTH and finite[k]
            )
            if self.diverged[k]:
                floor = 1.0 / self.classes
                accuracies = [n for n, v in values.items() if "_acc" in n and not math.isnan(v)]
                values.update(dict.fromkeys(accuracies, floor))
            recorded: dict[str, Any] = {
                n: v if math.isfinite(v) else None for n, v in values.items()
            }
            epochs.append(
                EpochMetrics(
                    network_id=self.members[k].network_id,
                    epoch=self.epoch,
                    input_stall_share=self.data.stall_share,
                    wall_s=wall_s,
                    **recorded,
                )
            )

    def _finite_statistics(self) -> list[bool]:
        """Whether each member's buffers, the running statistics, are finite."""
        finite = torch.ones(len(self.members), dtype=torch.bool, device=self.device)
        for buffer in self.model.buffers():
            finite &= buffer.isfinite().flatten(1).all(1) if buffer.dim() > 1 else True
        return finite.tolist()

    def _prune(self, rung: Rung) -> None:
        scores = [getattr(epochs[-1], self.spec.prune_metric) for epochs in self.history]
        kept = survivors([m.bracket for m in self.members], scores, rung.keep)
        for k in set(range(len(self.members))) - set(kept):
            self._end(k, Status.DIVERGED if self.diverged[k] else Status.PRUNED)
        if len(kept) < len(self.members):
            self._select(kept)
            self.history = [self.history[k] for k in kept]
            self.diverged = [self.diverged[k] for k in kept]

    def _select(self, kept: list[int]) -> None:
        """Shrink the stack to the members in `kept`."""
        self.members = [self.members[k] for k in kept]
        self.data.select(kept)
        self.model = self.model.select(kept)
        self.optimizer.select(kept, _trained_parameters(self.model))
        self.losses = CohortLosses(self.members, self.classes, self.device, self.dtype)
        self._steps, self._evaluate = self._new_steps()
        self.initial_norm = self.initial_norm[kept]
        if self._test_right is not None:
            self._test_right = self._test_right[kept]
        self.logit_std_init = [self.logit_std_init[k] for k in kept]

    def _end(self, k: int, status: Status) -> None:
        network_id, epochs, noise = self.members[k].network_id, self.history[k], self.data.noise[k]
        last = epochs[-1]
        metrics = TrialMetrics(
            status=status,
            epochs=len(epochs),
            train_acc_noisy=last.train_acc_noisy,
            train_acc_clean=last.train_acc_clean,
            val_acc_noisy=last.val_acc_noisy,
            val_acc_clean=last.val_acc_clean,
            test_acc=last.test_acc,
            best_val_acc_noisy=max(epoch.val_acc_noisy for epoch in epochs),
            noise_rate_realised=noise.rate,
            noise_rate_per_class=noise.per_class_rate.tolist(),
            logit_std_init=self.logit_std_init[k],
            classes=self.classes,
            train_size=self.data.examples,
            test_correct=self._test_correct(k),
        )
        self._results[network_id] = MemberResult(network_id, metrics, epochs)

    def _test_correct(self, k: int) -> bytes | None:
        if self._test_right is None or self.diverged[k]:
            return None
        return np.packbits(self._test_right[k].cpu().numpy()).tobytes()

    def _new_steps(
        self,
    ) -> tuple[EagerSteps | RecordedSteps, Callable[[torch.Tensor], torch.Tensor]]:
        """Training steps, and what maps inputs to logits in evaluation."""
        step = TrainingStep(self.model, self.losses, self.optimizer, self.spec.recipe, self.dtype)
        batch_size = self.spec.recipe.batch_size
        if self.device.type != "cuda":
            return EagerSteps(step, self.data, batch_size), self.model
        batches = fixed_batches(self.data, batch_size)
        recorded = RecordedSteps(step, batches, self.data.sizes(batch_size))
        return recorded, RecordedEvaluation(self.model, lambda: recorded.pool)

    def _per_member(self, values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    @torch.no_grad()
    def _logit_std(self) -> list[float]:
        # In training mode, as in the first step; the running statistics are restored afterwards.
        self.model.train()
        before = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        logits = self.model(self.data.first(_INIT_EXAMPLES))
        for name, buffer in self.model.named_buffers():
            buffer.copy_(before[name])
        # The spread over classes within an example: softmax ignores a shift common to all classes.
        spread: list[float] = logits.var(-1, unbiased=False).mean(-1).sqrt().tolist()
        return spread


def _trained_parameters(model: StackedModel) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _initial_model(spec: CohortSpec, members: Sequence[Member], dataset: Dataset) -> StackedModel:
    template = models.build(
        spec.model.name, dataset.input_shape, dataset.classes, spec.model.options
    )
    stacked = stack(template, len(members))
    for k, member in enumerate(members):
        generator = torch.Generator().manual_seed(member.init_seed)
        models.initialise(template, generator, spec.model.init, spec.model.init_gain)
        stacked.load_member(k, template)
    return stacked
