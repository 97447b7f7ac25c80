"""The examples of a cohort, on its device: inputs that are shared, order and labels per member."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trainables import noise
from trainables.datasets import Dataset
from trainables.datasets.streaming import ImageFiles
from trainables.engine.augment import Augmentation, Draws
from trainables.engine.spec import CohortSpec, DataSpec, Member
from trainables.seeds import derive

Inputs = torch.Tensor | ImageFiles
Split = Literal["train", "val", "test"]


class Batch(NamedTuple):
    """One batch of training examples: the same for all members, or one of each member's own.

    Attributes:
        inputs: normalised, shape [B, …], or [K, B, …] where members have batches of their own.
        noisy: labels that each member trains on, shape [K, B].
        clean: true labels, shape [B] or [K, B].
    """

    inputs: torch.Tensor
    noisy: torch.Tensor
    clean: torch.Tensor

    @property
    def examples(self) -> int:
        """Number of examples, B."""
        return self.noisy.shape[1]

    @property
    def is_shared(self) -> bool:
        """Whether all members train on the same examples."""
        return self.clean.dim() == 1


class CohortData:
    """The examples of a cohort, with one noisy labelling per member.

    The device holds one copy of the inputs for any number of members. Folders of images stay on
    disk and are decoded in the background.

    Args:
        spec: the cohort.
        members: in the order of the labels.
        device: where inputs and labels are.
        dtype: type of normalised inputs.

    Attributes:
        dataset: the data set.
        examples: number of training examples, N.
        train_clean: true training labels, [N].
        train_noisy: training labels per member, [K, N].
        val_clean: true validation labels.
        val_noisy: validation labels per member.
        test_labels: true test labels; exists only where the cohort reads the test set.
        noise: the realised noise of the training labels, one record per member.
        stall_share: share of the last epoch spent waiting for images.
    """

    def __init__(
        self,
        spec: CohortSpec,
        members: Sequence[Member],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.dataset = spec.data.load()
        self._device, self._dtype = device, dtype
        self._order_seeds = [m.order_seed for m in members]
        self._mean = _put(self.dataset.mean, device).to(dtype)
        self._std = _put(self.dataset.std, device).to(dtype)
        self._augment = Augmentation.from_dict(spec.recipe.augment)
        self._augment.check(self.dataset.input_shape)
        self._train, self._val = self._inputs(spec.data, "train"), self._inputs(spec.data, "val")
        self.train_clean = _put(self.dataset.train_y, device)
        self.val_clean = _put(self.dataset.val_y, device)
        if spec.reads_test:
            self._test = self._inputs(spec.data, "test")
            self.test_labels = _put(self.dataset.test_y, device)
        self.examples = len(self.dataset.train_y)
        self.stall_share = 0.0
        drawn = [_noisy_splits(*_noise_key(spec.data, m)) for m in members]
        self.noise: list[noise.NoisyLabels] = [splits.train for splits in drawn]
        train = [splits.train.labels for splits in drawn]
        val = [splits.val.labels for splits in drawn]
        self.train_noisy = _put(np.stack(train), device)
        self.val_noisy = _put(np.stack(val), device)

    def select(self, kept: list[int]) -> None:
        """Drop the labels of all members except those with indices `kept`."""
        self.train_noisy, self.val_noisy = self.train_noisy[kept], self.val_noisy[kept]
        self.noise = [self.noise[k] for k in kept]
        self._order_seeds = [self._order_seeds[k] for k in kept]

    def epoch(self, epoch: int, batch_size: int) -> Iterator[Batch]:
        """Batches of one epoch.

        A member's order seed and the epoch alone determine its order and augmentation.

        Args:
            epoch: from 1.
            batch_size: examples per batch; the last batch may differ.
        """
        self.stall_share = 0.0
        orders, of_member = self.orders(epoch)
        inputs = [
            self._epoch_inputs(seed, epoch, _batches(order, batch_size))
            for seed, order in zip(self.order_seeds, orders, strict=True)
        ]
        sizes = self.sizes(batch_size)
        noisy, clean = (
            torch.split(labels, sizes, dim=-1) for labels in self.ordered_labels(orders, of_member)
        )
        of_member = of_member.to(self._device)
        for batches, labels, true in zip(zip(*inputs, strict=True), noisy, clean, strict=True):
            if len(batches) == 1:
                yield Batch(batches[0], labels, true)
            else:
                yield Batch(torch.stack(batches).index_select(0, of_member), labels, true)

    @property
    def order_seeds(self) -> list[int]:
        """The members' different order seeds."""
        return list(dict.fromkeys(self._order_seeds))

    def orders(self, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The orders of the training examples in one epoch.

        Returns:
            one order for each of `order_seeds`, shape [G, N], and the index of each member's order,
            shape [K], both on the CPU.
        """
        seeds = self.order_seeds
        orders = torch.stack([self._order(seed, epoch) for seed in seeds])
        return orders, torch.tensor([seeds.index(seed) for seed in self._order_seeds])

    def ordered_labels(
        self, orders: torch.Tensor, of_member: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The training labels in the orders that `orders` returns.

        Returns:
            noisy labels [K, N] and true labels, [N] or, where members have orders of their own,
            [K, N].
        """
        if len(orders) == 1:
            order = orders[0].to(self._device)
            return self.train_noisy.index_select(1, order), self.train_clean[order]
        own = orders[of_member].to(self._device)
        return self.train_noisy.gather(1, own), self.train_clean[own]

    def draws(self, order_seed: int, epoch: int, batch_size: int) -> Draws:
        """The random numbers of an epoch's augmentation, in the order of the examples, [N, …]."""
        generator = self._augment_generator(order_seed, epoch)
        *_, height, width = (1, 1, *self.dataset.input_shape)
        batches = [
            self._augment.draw(size, (height, width), generator) for size in self.sizes(batch_size)
        ]
        return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}

    def inputs(self, rows: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Augmented and normalised training inputs that are in memory.

        Args:
            rows: indices of the examples, [B].
            draws: random numbers of their augmentation.

        Returns:
            shape [B, …].
        """
        assert isinstance(self._train, torch.Tensor)
        images = self._train.index_select(0, rows)  # faster than self._train[rows]
        return self._normalised(self._augment.apply(images, draws, self._mean))

    @property
    def is_in_memory(self) -> bool:
        """Whether the training inputs are on the device, not on disk."""
        return isinstance(self._train, torch.Tensor)

    def _order(self, order_seed: int, epoch: int) -> torch.Tensor:
        """The order of the training examples in one epoch, [N]."""
        generator = torch.Generator().manual_seed(derive(order_seed, "order", epoch))
        return torch.randperm(self.examples, generator=generator)

    def _augment_generator(self, order_seed: int, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive(order_seed, "augment", epoch))

    def _epoch_inputs(
        self, order_seed: int, epoch: int, rows: list[torch.Tensor]
    ) -> Iterator[torch.Tensor]:
        """Augmented and normalised training inputs of one order, batch by batch."""
        generator = self._augment_generator(order_seed, epoch)
        for images in self._raw(order_seed, epoch, rows):
            yield self._normalised(self._augment(images, generator, self._mean))

    def _raw(self, order_seed: int, epoch: int, rows: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Training inputs as stored, batch by batch, on the device."""
        if not isinstance(self._train, ImageFiles):
            for indices in rows:
                # Faster than self._train[indices].
                yield self._train.index_select(0, indices.to(self._device))
            return
        crop_seed = derive(order_seed, "crop", epoch)
        with self._train.stream([indices.numpy() for indices in rows], crop_seed) as stream:
            for images in stream:
                yield torch.from_numpy(images).to(self._device)
            # One stream after the other is waited for.
            self.stall_share = min(1.0, self.stall_share + stream.stall_share)

    def sizes(self, batch_size: int) -> list[int]:
        """Number of examples in each batch of an epoch."""
        return [len(rows) for rows in _batches(torch.arange(self.examples), batch_size)]

    def first(self, examples: int) -> torch.Tensor:
        """Normalised training inputs without augmentation.

        Args:
            examples: number of examples B, the first ones.

        Returns:
            shape [B, …].
        """
        return self._rows(self._train, slice(0, min(examples, self.examples)))

    def val_inputs(self, rows: slice) -> torch.Tensor:
        """Normalised validation inputs [B, …]."""
        return self._rows(self._val, rows)

    def test_inputs(self, rows: slice) -> torch.Tensor:
        """Normalised test inputs [B, …]."""
        return self._rows(self._test, rows)

    def _inputs(self, spec: DataSpec, split: Split) -> Inputs:
        array = getattr(self.dataset, f"{split}_x")
        if isinstance(array, ImageFiles):
            return array
        if self._device.type == "cpu":
            return _put(array, self._device)
        return _resident(
            _data_key(spec),
            split,
            str(self._device),
        )

    def _rows(self, inputs: Inputs, rows: slice) -> torch.Tensor:
        x = inputs[rows]
        if isinstance(x, np.ndarray):
            x = torch.from_numpy(x).to(self._device)
        return self._normalised(x)

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        return (x.to(self._dtype) - self._mean) / self._std


def _batches(order: torch.Tensor, batch_size: int) -> list[torch.Tensor]:
    """Split an order of examples into batches.

    The last batch holds the remainder; a remainder of one example joins the batch before it,
    because one example has no batch statistics.
    """
    batches = list(torch.split(order, batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _data_key(spec: DataSpec) -> str:
    return json.dumps([spec.name, spec.classes, spec.root, dict(spec.options)])


def _noise_key(spec: DataSpec, member: Member) -> tuple[str, str, float | None, int, str]:
    options = json.dumps(dict(member.noise_options), sort_keys=True)
    return _data_key(spec), member.noise_kind, member.noise_rate, member.noise_seed, options


@functools.lru_cache(maxsize=64)
def _noisy_splits(
    data: str, kind: str, rate: float | None, seed: int, options: str
) -> noise.NoisySplits:
    """Noisy labels, kept for the next cohorts of this process: a search repeats its seeds."""
    name, classes, root, data_options = json.loads(data)
    dataset = DataSpec(name, classes, root, data_options).load()
    return noise.apply(dataset, kind, rate, seed, root=root, **json.loads(options))


@functools.lru_cache(maxsize=6)
def _resident(data: str, split: Split, device: str) -> torch.Tensor:
    """A data set's inputs on an accelerator, kept there for the next cohorts of this process."""
    name, classes, root, options = json.loads(data)
    dataset: Dataset = DataSpec(name, classes, root, options).load()
    return _put(getattr(dataset, f"{split}_x"), torch.device(device))


def _put(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    with warnings.catch_warnings():
        # Data sets are read-only on purpose, and nothing here writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array).to(device)
