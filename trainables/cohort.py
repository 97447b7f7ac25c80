"""Train a cohort: K networks of one group side by side on the same batches in the same order.

A member's trajectory follows from its own settings and seeds alone. It does not depend on how many
neighbours it has, who they are or how they fare; a study may therefore pack networks into cohorts
as the hardware likes.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from trainables import datasets, losses, models, noise
from trainables.dynamics import EpochDynamics, accuracy, largest_delta
from trainables.optimisation import SCHEDULES, StackedSGD
from trainables.seeds import derive
from trainables.stacking import StackedModel, stack

DIVERGED_GROWTH = 1e3
"""A network has diverged once a number in it is not finite, or its parameters' norm has grown by
more than this factor since initialisation. (A bounded loss has no gradient left after one step of
far too large a learning rate: nothing overflows, but the network is lost all the same.)"""

_INIT_EXAMPLES = 1000  # training examples on which the initial logits' spread is measured


@dataclass(frozen=True)
class DataSpec:
    """Which data set: `classes` keeps the first so many classes, None keeps all."""

    name: str
    classes: int | None = None
    root: str | None = None

    def load(self) -> datasets.Dataset:
        """The data set itself (cached in this process)."""
        return datasets.load(self.name, classes=self.classes, root=self.root)


@dataclass(frozen=True)
class ModelSpec:
    """Which architecture and initialisation; see `trainables.models`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    init: str = "glorot_uniform"


@dataclass(frozen=True)
class Recipe:
    """What members of a group have in common besides data and model."""

    epochs: int
    batch_size: int
    optimizer: str = "sgd"
    momentum: float = 0.9
    schedule: str = "cosine"


@dataclass(frozen=True)
class Member:
    """One network: what is its own. `noise_rate` in [0, 1]; `epsilon` is the logit bias."""

    network_id: str
    loss: str
    lr: float
    epsilon: float = 0.0
    loss_params: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0
    noise_kind: str = "symmetric"
    noise_rate: float = 0.0
    noise_seed: int = 0
    init_seed: int = 0


@dataclass(frozen=True)
class CohortSpec:
    """Networks that can train together: same data, model, recipe and order of batches."""

    data: DataSpec
    model: ModelSpec
    recipe: Recipe
    members: Sequence[Member]
    order_seed: int = 0
    reads_test: bool = False  # only `confirm` does; otherwise the test set is not even loaded

    def to_dict(self) -> dict[str, Any]:
        """Plain data that survives JSON and pickling between versions."""
        return asdict(self)

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> CohortSpec:
        """The inverse of `to_dict`."""
        return cls(
            data=DataSpec(**spec["data"]),
            model=ModelSpec(**spec["model"]),
            recipe=Recipe(**spec["recipe"]),
            members=[Member(**member) for member in spec["members"]],
            order_seed=spec["order_seed"],
            reads_test=spec["reads_test"],
        )


@dataclass(frozen=True)
class MemberResult:
    """What became of one network: columns of `trials` (`metrics`) and rows of `epochs`."""

    network_id: str
    metrics: dict[str, Any]
    epochs: list[dict[str, Any]]


def train(
    spec: CohortSpec, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> list[MemberResult]:
    """Train every member of a cohort from initialisation to the last epoch.

    Returns
    -------
    One result a member, in the order of `spec.members`. Metrics are of the last epoch unless
    named `best`. A diverged member has status `diverged` and floor accuracy 1/classes, the
    accuracy of guessing, from the epoch in which it diverged.

    Raises
    ------
    ValueError: unknown loss, model, data set or noise kind.
    """
    started = time.perf_counter()
    run = _Run(spec, torch.device(device), dtype)
    for epoch in range(1, spec.recipe.epochs + 1):
        run.train_epoch(epoch)
        run.close_epoch(epoch)
    return run.results(wall_s=time.perf_counter() - started)


class _Run:
    """A cohort in training. Members are kept sorted by loss, so that a loss is one slice."""

    def __init__(self, spec: CohortSpec, device: torch.device, dtype: torch.dtype) -> None:
        self.spec, self.device, self.dtype = spec, device, dtype
        self.members = sorted(spec.members, key=lambda m: (m.loss, sorted(m.loss_params)))
        self.data = _DeviceData(spec, self.members, device, dtype)
        self.classes = self.data.dataset.classes
        self.model = _initial_model(spec, self.members, self.data.dataset).to(device, dtype)
        self.losses = _group_losses(self.members, self.classes, device, dtype)
        self.largest_delta = torch.cat([g.largest_delta for g in self.losses])
        self.lr = self._per_member("lr")
        self.optimiser = StackedSGD(
            self.model.parameters(),
            lr=self.lr,
            momentum=torch.full_like(self.lr, spec.recipe.momentum),
            weight_decay=self._per_member("weight_decay"),
        )
        self.schedule = SCHEDULES[spec.recipe.schedule]
        self.steps_per_epoch = math.ceil(self.data.examples / spec.recipe.batch_size)
        self.initial_norm = self._parameter_norm()
        self.logit_std_init = self._logit_std()
        self.diverged = [False] * len(self.members)
        self.rows: list[list[dict[str, Any]]] = [[] for _ in self.members]
        self.dynamics = EpochDynamics(self.largest_delta)
        self.grad_norm = torch.zeros_like(self.lr)
        self.last_lr = self.lr
        self.clock = time.perf_counter()

    def train_epoch(self, epoch: int) -> None:
        """One pass over the training examples, in an order that follows from seed and epoch."""
        recipe = self.spec.recipe
        generator = torch.Generator().manual_seed(derive(self.spec.order_seed, "order", epoch))
        order = torch.randperm(self.data.examples, generator=generator).to(self.device)
        self.dynamics = EpochDynamics(self.largest_delta)
        total = self.steps_per_epoch * recipe.epochs
        self.model.train()
        for step in range(self.steps_per_epoch):
            batch = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            noisy = self.data.train_noisy[:, batch]
            logits = self.model(self.data.train_inputs(batch))
            logits.retain_grad()
            per_example = torch.cat([g(logits[g.part], noisy[g.part]) for g in self.losses], dim=0)
            # A given gradient of 1/B an example, rather than a mean over the members' losses,
            # keeps reductions over members out of the computation.
            per_example.backward(torch.full_like(per_example, 1.0 / len(batch)))
            assert logits.grad is not None
            self.dynamics.add(
                logits.detach(),
                per_example.detach(),
                logits.grad * len(batch),
                noisy,
                self.data.train_clean[batch],
            )
            if step == self.steps_per_epoch - 1:
                self.grad_norm = self._gradient_norm()
            factor = self.schedule(((epoch - 1) * self.steps_per_epoch + step) / total)
            self.last_lr = self.lr * factor
            self.optimiser.step(factor)

    def close_epoch(self, epoch: int) -> None:
        """Evaluate, notice divergence, and append one row a member."""
        self.model.eval()
        means = self.dynamics.means()
        means["val_acc_noisy"], means["val_acc_clean"] = accuracy(
            self.model, self.data.val_inputs, [self.data.val_noisy, self.data.val_clean]
        )
        means["test_acc"] = (
            accuracy(self.model, self.data.test_inputs, [self.data.test_labels])[0]
            if self.spec.reads_test
            else [math.nan] * len(self.members)
        )
        means["lr"], means["grad_norm"] = self.last_lr.tolist(), self.grad_norm.tolist()
        growth = (self._parameter_norm() / self.initial_norm).tolist()
        now = time.perf_counter()
        for k, rows in enumerate(self.rows):
            row: dict[str, Any] = {name: values[k] for name, values in means.items()}
            self.diverged[k] |= not (
                math.isfinite(row["train_loss"]) and growth[k] <= DIVERGED_GROWTH
            )
            if self.diverged[k]:
                for name in row:
                    if "_acc" in name and not math.isnan(row[name]):
                        row[name] = 1.0 / self.classes
            rows.append(
                {
                    **{name: _null_if_not_finite(value) for name, value in row.items()},
                    "network_id": self.members[k].network_id,
                    "epoch": epoch,
                    "wall_s": now - self.clock,
                }
            )
        self.clock = now

    def results(self, wall_s: float) -> list[MemberResult]:
        """Results in the order in which the caller named the members."""
        found = {}
        for k, (member, rows) in enumerate(zip(self.members, self.rows, strict=True)):
            last = rows[-1]
            found[member.network_id] = MemberResult(
                network_id=member.network_id,
                metrics={
                    "status": "diverged" if self.diverged[k] else "complete",
                    "epochs": len(rows),
                    **{name: value for name, value in last.items() if "_acc" in name},
                    "best_val_acc_noisy": max(row["val_acc_noisy"] for row in rows),
                    "noise_rate_real": self.data.noise_rate_real[k],
                    "logit_std_init": self.logit_std_init[k],
                    "classes": self.classes,
                    "train_size": self.data.examples,
                    "wall_s": wall_s,
                    "networks_in_cohort": len(self.members),
                },
                epochs=rows,
            )
        return [found[member.network_id] for member in self.spec.members]

    def _per_member(self, name: str) -> torch.Tensor:
        values = [getattr(member, name) for member in self.members]
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    @torch.no_grad()
    def _parameter_norm(self) -> torch.Tensor:
        return _norms(list(self.model.parameters()))

    @torch.no_grad()
    def _gradient_norm(self) -> torch.Tensor:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return _norms(gradients)

    @torch.no_grad()
    def _logit_std(self) -> list[float]:
        self.model.eval()
        some = torch.arange(min(_INIT_EXAMPLES, self.data.examples), device=self.device)
        logits = self.model(self.data.train_inputs(some))
        # The spread over classes within an example: softmax does not see a shift common to them.
        spread: list[float] = logits.var(-1, unbiased=False).mean(-1).sqrt().tolist()
        return spread


class _DeviceData:
    """The data set on the device, with one noisy labelling a member."""

    def __init__(
        self,
        spec: CohortSpec,
        members: Sequence[Member],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.dataset = spec.data.load()
        self._mean, self._std = (
            torch.as_tensor(np.asarray(a)).to(device, dtype)
            for a in (self.dataset.mean, self.dataset.std)
        )
        self._dtype = dtype

        def put(array: np.ndarray) -> torch.Tensor:
            with warnings.catch_warnings():
                # Data sets are read-only on purpose, and nothing here writes to them.
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                return torch.from_numpy(array).to(device)

        self._train, self._val = put(self.dataset.train_x), put(self.dataset.val_x)
        self.train_clean, self.val_clean = put(self.dataset.train_y), put(self.dataset.val_y)
        if spec.reads_test:
            self._test, self.test_labels = put(self.dataset.test_x), put(self.dataset.test_y)
        self.examples = len(self.dataset.train_y)
        train, val, self.noise_rate_real = [], [], []
        drawn: dict[tuple[Any, ...], tuple[np.ndarray, np.ndarray, float]] = {}
        for m in members:
            key = (m.noise_kind, m.noise_rate, m.noise_seed)
            if key not in drawn:
                drawn[key] = _noisy_labels(self.dataset, *key)
            noisy_train, noisy_val, rate = drawn[key]
            train.append(noisy_train)
            val.append(noisy_val)
            self.noise_rate_real.append(rate)
        self.train_noisy, self.val_noisy = put(np.stack(train)), put(np.stack(val))

    def train_inputs(self, which: torch.Tensor) -> torch.Tensor:
        """Normalised training inputs [B, …] of the examples `which` [B]."""
        return self._normalised(self._train[which])

    def val_inputs(self, which: slice) -> torch.Tensor:
        """Normalised validation inputs [B, …]."""
        return self._normalised(self._val[which])

    def test_inputs(self, which: slice) -> torch.Tensor:
        """Normalised test inputs [B, …]."""
        return self._normalised(self._test[which])

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        return (x.to(self._dtype) - self._mean) / self._std


def _noisy_labels(
    dataset: datasets.Dataset, kind: str, rate: float, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Noisy training and validation labels, from unrelated draws, and the realised rate."""
    train = noise.corrupt(dataset.train_y, dataset.classes, kind, rate, derive(seed, "train"))
    val = noise.corrupt(dataset.val_y, dataset.classes, kind, rate, derive(seed, "val"))
    return train.labels, val.labels, train.rate


def _initial_model(
    spec: CohortSpec, members: Sequence[Member], dataset: datasets.Dataset
) -> StackedModel:
    template = models.build(
        spec.model.name, dataset.input_shape, dataset.classes, spec.model.options
    )
    stacked = stack(template, len(members))
    for k, member in enumerate(members):
        generator = torch.Generator().manual_seed(member.init_seed)
        models.initialise(template, generator, spec.model.init)
        stacked.load_member(k, template)
    return stacked


@dataclass(frozen=True)
class _LossGroup:
    """Neighbouring members with the same loss function: `part` of the member axis."""

    part: slice
    loss: losses.Loss
    epsilon: torch.Tensor  # [k]
    params: dict[str, torch.Tensor]  # each [k]
    largest_delta: torch.Tensor  # [k]

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of each example, [k, B], of logits [k, B, C] and labels [k, B]."""
        return losses.evaluate(self.loss, logits, labels, epsilon=self.epsilon, **self.params)


def _group_losses(
    members: Sequence[Member], classes: int, device: torch.device, dtype: torch.dtype
) -> list[_LossGroup]:
    groups = []
    start = 0
    while start < len(members):
        first = members[start]
        stop = start
        while stop < len(members) and (
            (members[stop].loss, sorted(members[stop].loss_params))
            == (first.loss, sorted(first.loss_params))
        ):
            stop += 1
        some = members[start:stop]
        loss = losses.get(first.loss)
        epsilon = torch.tensor([m.epsilon for m in some], dtype=dtype, device=device)
        params = {
            name: torch.tensor([m.loss_params[name] for m in some], dtype=dtype, device=device)
            for name in first.loss_params
        }
        on_cpu = {name: value.cpu() for name, value in params.items()}
        largest = largest_delta(
            lambda z, y, loss=loss, p=on_cpu: loss.function(z, y, **p),  # type: ignore[misc]
            len(some),
            classes,
            dtype,
        )
        groups.append(
            _LossGroup(slice(start, stop), loss, epsilon, params, largest.to(device, dtype))
        )
        start = stop
    return groups


def _norms(stacked: list[torch.Tensor]) -> torch.Tensor:
    """Norm of each member's part of tensors [K, …], taken one by one: [K].

    A reduction over [K, n] adds in another order for K = 1 than for K > 1.
    """
    members = range(len(stacked[0]))
    return torch.stack([torch.nn.utils.get_total_norm([s[k] for s in stacked]) for k in members])


def _null_if_not_finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
