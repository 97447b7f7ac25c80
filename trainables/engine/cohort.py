"""A cohort in training, epoch by epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from trainables import models
from trainables.datasets import Dataset
from trainables.engine.cohort_losses import CohortLosses, loss_key
from trainables.engine.data import CohortData
from trainables.engine.metrics import EpochDynamics, accuracy
from trainables.engine.optimizers import lr_factor, make_optimizer, norms
from trainables.engine.spec import CohortSpec, Member, MemberResult, Rung
from trainables.engine.step import GraphedStep, ScheduleFactors, TrainingStep
from trainables.engine.successive_halving import survivors
from trainables.losses.schedules import epsilon_factor
from trainables.stacking import StackedModel, stack

DIVERGED_GROWTH = 1e3
"""A network has diverged once its loss, a parameter or a running statistic is not finite, or its
parameters' norm has grown by more than this factor since initialisation. (A bounded loss has no
gradient left after one step of far too large a learning rate: nothing overflows, but the network is
lost all the same.)"""

_EVALUATED_AT_ONCE = 500_000  # numbers of input on a CPU; more cost memory and gain nothing
_INIT_EXAMPLES = 256  # training examples on which the initial logits' spread is measured

State = dict[str, Any]


class CohortRun:
    """A cohort in training. Members are kept sorted by loss, so that a loss is one slice."""

    def __init__(self, spec: CohortSpec, device: torch.device, dtype: torch.dtype) -> None:
        self.spec, self.device, self.dtype = spec, device, dtype
        self.members = sorted(spec.members, key=loss_key)
        self.data = CohortData(spec, self.members, device, dtype)
        self.classes = self.data.dataset.classes
        self.model = _initial_model(spec, self.members, self.data.dataset).to(device, dtype)
        self.model.compiles = spec.recipe.compile and device.type == "cuda"
        self.optimizer = make_optimizer(
            spec.recipe,
            _trained(self.model),
            self._per_member([m.lr for m in self.members]),
            self._per_member([m.weight_decay for m in self.members]),
            self._per_member([m.weight_l1 for m in self.members]),
        )
        self.losses = CohortLosses(self.members, self.classes, device, dtype)
        self._step = self._new_step()
        self.initial_norm = norms(list(self.model.parameters())).detach()
        self.logit_std_init = self._logit_std()
        self.epoch = 0
        self.rows: list[list[dict[str, Any]]] = [[] for _ in self.members]
        self.diverged = [False] * len(self.members)
        self._ended: dict[str, MemberResult] = {}
        numbers = math.prod(self.data.dataset.input_shape)
        self._evaluation_batch = max(spec.recipe.batch_size, _EVALUATED_AT_ONCE // numbers)
        if device.type == "cuda":  # a few large kernels; needs less memory than a training step
            self._evaluation_batch = 4 * spec.recipe.batch_size

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is trained."""
        return self.epoch >= self.spec.recipe.epochs

    @np.errstate(all="ignore")  # a diverged member overflows, and is found by its loss
    def train_epoch(self) -> None:
        """One pass over the training examples, then evaluation, rows and, at a rung, pruning."""
        started = time.perf_counter()
        self.epoch += 1
        training = self._train()
        self._append_rows(training, started)
        for rung in self.spec.rungs:
            if rung.epoch == self.epoch and not self.is_done:
                self._prune(rung)

    def results(self) -> list[MemberResult]:
        """Results in the order in which the caller named the members."""
        for k, member in enumerate(self.members):
            self._end(k, "diverged" if self.diverged[k] else "complete")
            assert member.network_id in self._ended
        return [self._ended[member.network_id] for member in self.spec.members]

    def state(self) -> State:
        """Everything that the rest of training depends on, on the CPU."""
        return {
            "network_ids": [m.network_id for m in self.members],
            "model": {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()},
            "moments": [[m.cpu().clone() for m in moments] for moments in self.optimizer.state],
            "steps": self.optimizer.steps,
            "epoch": self.epoch,
            "rows": [list(rows) for rows in self.rows],
            "diverged": list(self.diverged),
            "ended": {name: asdict(result) for name, result in self._ended.items()},
        }

    def load_state(self, state: State) -> None:
        """Go on from `state` of a run with the same spec."""
        place = {m.network_id: k for k, m in enumerate(self.members)}
        kept = [place[network_id] for network_id in state["network_ids"]]
        if len(kept) < len(self.members):
            self._select(kept)
        self.model.load_state_dict(state["model"])
        moved = [[m.to(self.device) for m in moments] for moments in state["moments"]]
        self.optimizer.state = moved
        self.optimizer.steps, self.epoch = state["steps"], state["epoch"]
        self._ended = {name: MemberResult(**r) for name, r in state["ended"].items()}
        self.rows = [list(rows) for rows in state["rows"]]
        self.diverged = list(state["diverged"])
        self._step = self._new_step()  # a recorded one would go on with the moments from before

    def try_steps(self, steps: int, to_the_end: bool = False) -> int:
        """A few training steps, to see what they take; the run cannot be used afterwards.

        Parameters
        ----------
        to_the_end: whether the last is to be treated as the last of an epoch.

        Returns
        -------
        How many steps an epoch has.
        """
        self.epoch = 1
        self._train(largest_step=steps - 1, to_the_end=to_the_end)
        return self.data.steps(self.spec.recipe.batch_size)

    def _train(
        self, largest_step: int | None = None, to_the_end: bool = False
    ) -> dict[str, list[float]]:
        recipe = self.spec.recipe
        per_epoch = self.data.steps(recipe.batch_size)
        steps = per_epoch * recipe.epochs
        done = (self.epoch - 1) * per_epoch
        dynamics = EpochDynamics(self.losses.largest_delta)
        grad_norm, factor = torch.zeros_like(self.optimizer.lr), 1.0
        self.model.train()
        for step, batch in enumerate(self.data.epoch(self.epoch, recipe.batch_size)):
            factor = lr_factor(recipe, done + step, steps, per_epoch)
            epsilon = epsilon_factor(recipe.epsilon_schedule, (done + step) / steps)
            is_last = step == per_epoch - 1 or (to_the_end and step == largest_step)
            found = self._step(batch, ScheduleFactors(epsilon, factor, is_last))
            dynamics.add(found.observed)
            if found.grad_norm is not None:
                grad_norm = found.grad_norm
            if step == largest_step:
                break
        return {
            **dynamics.means(),
            "lr": (self.optimizer.lr * factor).tolist(),
            "grad_norm": grad_norm.tolist(),
        }

    def _append_rows(self, training: dict[str, list[float]], started: float) -> None:
        self.model.eval()
        values = dict(training)
        at_a_time = self._evaluation_batch
        values["val_acc_noisy"], values["val_acc_clean"] = accuracy(
            self.model, self.data.val_inputs, [self.data.val_noisy, self.data.val_clean], at_a_time
        )
        values["test_acc"] = (
            accuracy(self.model, self.data.test_inputs, [self.data.test_labels], at_a_time)[0]
            if self.spec.reads_test
            else [math.nan] * len(self.members)
        )
        growth = (norms(list(self.model.parameters())) / self.initial_norm).tolist()
        finite = self._finite_statistics()
        for k, rows in enumerate(self.rows):
            row = {name: column[k] for name, column in values.items()}
            self.diverged[k] |= not (
                math.isfinite(row["train_loss"]) and growth[k] <= DIVERGED_GROWTH and finite[k]
            )
            if self.diverged[k]:
                floor = 1.0 / self.classes
                row.update({n: floor for n, v in row.items() if "_acc" in n and not math.isnan(v)})
            rows.append(
                {
                    **{n: v if math.isfinite(v) else None for n, v in row.items()},
                    "network_id": self.members[k].network_id,
                    "epoch": self.epoch,
                    "input_stall_share": self.data.stall_share,
                    "wall_s": time.perf_counter() - started,
                }
            )

    def _finite_statistics(self) -> list[bool]:
        """Whether each member's buffers, the running statistics, are finite."""
        finite = torch.ones(len(self.members), dtype=torch.bool, device=self.device)
        for buffer in self.model.buffers():
            finite &= buffer.isfinite().flatten(1).all(1) if buffer.dim() > 1 else True
        return finite.tolist()

    def _prune(self, rung: Rung) -> None:
        scores = [rows[-1][self.spec.prune_metric] for rows in self.rows]
        kept = survivors([m.bracket for m in self.members], scores, rung.keep)
        for k in set(range(len(self.members))) - set(kept):
            self._end(k, "diverged" if self.diverged[k] else "pruned")
        if len(kept) < len(self.members):
            self._select(kept)
            self.rows = [self.rows[k] for k in kept]
            self.diverged = [self.diverged[k] for k in kept]

    def _select(self, kept: list[int]) -> None:
        """Shrink the stack to the members in `kept`."""
        self.members = [self.members[k] for k in kept]
        self.data.select(kept)
        self.model = self.model.select(kept)
        self.optimizer.select(kept, _trained(self.model))
        self.losses = CohortLosses(self.members, self.classes, self.device, self.dtype)
        self._step = self._new_step()
        self.initial_norm = self.initial_norm[kept]
        self.logit_std_init = [self.logit_std_init[k] for k in kept]

    def _end(self, k: int, status: str) -> None:
        rows, realised = self.rows[k], self.data.noise[k]
        self._ended[self.members[k].network_id] = MemberResult(
            network_id=self.members[k].network_id,
            metrics={
                "status": status,
                "epochs": len(rows),
                **{name: value for name, value in rows[-1].items() if "_acc" in name},
                "best_val_acc_noisy": max(row["val_acc_noisy"] for row in rows),
                "noise_rate_real": realised.rate,
                "noise_rate_per_class": realised.per_class_rate.tolist(),
                "logit_std_init": self.logit_std_init[k],
                "classes": self.classes,
                "train_size": self.data.examples,
            },
            epochs=rows,
        )

    def _new_step(self) -> TrainingStep | GraphedStep:
        step = TrainingStep(self.model, self.losses, self.optimizer, self.spec.recipe, self.dtype)
        return GraphedStep(step) if self.device.type == "cuda" else step

    def _per_member(self, values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    @torch.no_grad()
    def _logit_std(self) -> list[float]:
        # In training mode, as the first step finds it; running statistics are put back.
        self.model.train()
        before = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        logits = self.model(self.data.first(_INIT_EXAMPLES))
        for name, buffer in self.model.named_buffers():
            buffer.copy_(before[name])
        # The spread over classes within an example: softmax does not see a shift common to them.
        spread: list[float] = logits.var(-1, unbiased=False).mean(-1).sqrt().tolist()
        return spread


def _trained(model: StackedModel) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _initial_model(spec: CohortSpec, members: Sequence[Member], dataset: Dataset) -> StackedModel:
    template = models.build(
        spec.model.name, dataset.input_shape, dataset.classes, spec.model.options
    )
    stacked = stack(template, len(members))
    for k, member in enumerate(members):
        generator = torch.Generator().manual_seed(member.init_seed)
        models.initialise(template, generator, spec.model.init)
        stacked.load_member(k, template)
    return stacked
