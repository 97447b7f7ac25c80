"""An epoch's batches in tensors with fixed addresses, from which a CUDA graph reads.

A recorded step repeats the same operations on the same memory. The order of the examples, their
labels and the random numbers of their augmentation are therefore copied into the same tensors at
the start of every epoch, and the step finds its batch by its position in the epoch, which is
itself a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from trainables.engine.augment import Draws
from trainables.engine.data import Batch, CohortData


class FixedBatches(Protocol):
    """The batches of one epoch after the other."""

    def begin(self, epoch: int) -> None:
        """Prepare the batches of an epoch, from 1."""

    def load(self, size: int) -> None:
        """Prepare the next batch, of `size` examples, where this needs the host."""

    def end(self) -> None:
        """Finish the epoch."""

    def batch(self, position: torch.Tensor, size: int) -> Batch:
        """A batch of the epoch.

        Args:
            position: number of the batch from 0, int64 of shape [1], on the device.
            size: number of examples.
        """


def fixed_batches(data: CohortData, batch_size: int) -> FixedBatches:
    """The batches of a cohort, with at most `batch_size` + 1 examples each."""
    kind = ResidentBatches if data.is_in_memory else StreamedBatches
    return kind(data, batch_size)


class ResidentBatches:
    """Batches of inputs that are on the device; the host does nothing between steps.

    Args:
        data: the cohort's data.
        batch_size: examples per batch; the last batch may differ.
    """

    def __init__(self, data: CohortData, batch_size: int) -> None:
        self._data, self._batch_size = data, batch_size
        self._device = data.train_clean.device
        self._orders: torch.Tensor  # rows of the inputs, [G, N]
        self._noisy: torch.Tensor  # [K, N]
        self._clean: torch.Tensor  # [N] or [K, N]
        self._draws: Draws  # each [G, N, …]
        self._of_member: torch.Tensor  # each member's order, [K]
        self._is_empty = True

    def begin(self, epoch: int) -> None:
        """Copy the orders, labels and random numbers of an epoch to the device."""
        orders, of_member = self._data.orders(epoch)
        noisy, clean = self._data.ordered_labels(orders, of_member)
        seeds = self._data.order_seeds
        drawn = [self._data.draws(seed, epoch, self._batch_size) for seed in seeds]
        draws = {name: torch.stack([d[name] for d in drawn]) for name in drawn[0]}
        if self._is_empty:
            self._orders, self._of_member = orders.to(self._device), of_member.to(self._device)
            self._noisy, self._clean = noisy, clean
            self._draws = {name: values.to(self._device) for name, values in draws.items()}
            self._is_empty = False
            return
        self._orders.copy_(orders)
        self._noisy.copy_(noisy)
        self._clean.copy_(clean)
        for name, values in draws.items():
            self._draws[name].copy_(values)

    def load(self, size: int) -> None:
        """Nothing is left to prepare."""

    def end(self) -> None:
        """Nothing is left to do."""

    def batch(self, position: torch.Tensor, size: int) -> Batch:
        """A batch of the epoch; arguments as in `FixedBatches`."""
        examples = position * self._batch_size + torch.arange(size, device=self._device)
        rows = self._orders.index_select(1, examples)
        draws = {
            name: values.index_select(1, examples).flatten(0, 1)
            for name, values in self._draws.items()
        }
        inputs = self._data.inputs(rows.flatten(), draws)
        if len(rows) > 1:
            inputs = torch.unflatten(inputs, 0, rows.shape).index_select(0, self._of_member)
        return Batch(
            inputs,
            self._noisy.index_select(1, examples),
            self._clean.index_select(-1, examples),
        )


class StreamedBatches:
    """Batches of inputs that are read from disk; each is copied to the same memory.

    Args:
        data: the cohort's data.
        batch_size: examples per batch; the last batch may differ.
    """

    def __init__(self, data: CohortData, batch_size: int) -> None:
        self._data, self._batch_size = data, batch_size
        self._next: Iterator[Batch] = iter(())
        self._batches: dict[int, Batch] = {}

    def begin(self, epoch: int) -> None:
        """Start to read the epoch's images."""
        self._next = self._data.epoch(epoch, self._batch_size)

    def load(self, size: int) -> None:
        """Copy the next batch to the memory of its size."""
        batch = next(self._next)
        if size not in self._batches:
            self._batches[size] = Batch(*(tensor.clone() for tensor in batch))
            return
        for source, target in zip(batch, self._batches[size], strict=True):
            target.copy_(source)

    def end(self) -> None:
        """Finish reading, which also counts the time spent waiting for images."""
        next(self._next, None)

    def batch(self, position: torch.Tensor, size: int) -> Batch:
        """The batch that was loaded last; arguments as in `FixedBatches`."""
        return self._batches[size]
