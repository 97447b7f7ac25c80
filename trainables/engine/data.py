"""A data set where the networks are: on the device, normalised batch by batch, labels a member."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from trainables import noise
from trainables.datasets import Dataset
from trainables.datasets.streaming import ImageFiles
from trainables.engine.augment import Augmentation
from trainables.engine.spec import CohortSpec, DataSpec, Member
from trainables.seeds import derive

Inputs = torch.Tensor | ImageFiles


class Batch(NamedTuple):
    """inputs [B, …], normalised; noisy: each member's labels [K, B]; clean: true labels [B]."""

    inputs: torch.Tensor
    noisy: torch.Tensor
    clean: torch.Tensor


class CohortData:
    """The examples of a cohort, with one noisy labelling a member.

    The arrays lie on the device once, whatever the number of members. Folders of images stay on
    disk and are decoded in the background.
    """

    def __init__(
        self,
        spec: CohortSpec,
        members: Sequence[Member],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.dataset = spec.data.load()
        self._device, self._dtype, self._order_seed = device, dtype, spec.order_seed
        self._mean = _put(self.dataset.mean, device).to(dtype)
        self._std = _put(self.dataset.std, device).to(dtype)
        self._augment = Augmentation.from_dict(spec.recipe.augment)
        self._augment.check(self.dataset.input_shape)
        self._train, self._val = (self._inputs(spec.data, part) for part in ("train", "val"))
        self.train_clean = _put(self.dataset.train_y, device)
        self.val_clean = _put(self.dataset.val_y, device)
        if spec.reads_test:
            self._test = self._inputs(spec.data, "test")
            self.test_labels = _put(self.dataset.test_y, device)
        self.examples = len(self.dataset.train_y)
        self.stall_share = 0.0  # share of the last epoch spent waiting for images
        drawn: dict[str, noise.NoisySplits] = {}
        self.noise: list[noise.NoisyLabels] = []
        train, val = [], []
        for m in members:
            key = json.dumps([m.noise_kind, m.noise_rate, m.noise_seed, m.noise_options])
            if key not in drawn:
                drawn[key] = noise.apply(
                    self.dataset,
                    m.noise_kind,
                    m.noise_rate,
                    m.noise_seed,
                    root=spec.data.root,
                    **m.noise_options,
                )
            self.noise.append(drawn[key].train)
            train.append(drawn[key].train.labels)
            val.append(drawn[key].val.labels)
        self.train_noisy = _put(np.stack(train), device)  # [K, N]
        self.val_noisy = _put(np.stack(val), device)  # [K, N]

    def select(self, kept: list[int]) -> None:
        """Forget the labels of members that are not in `kept`."""
        self.train_noisy, self.val_noisy = self.train_noisy[kept], self.val_noisy[kept]
        self.noise = [self.noise[k] for k in kept]

    def epoch(self, epoch: int, batch_size: int) -> Iterator[Batch]:
        """Batches of one epoch.

        Order and augmentation follow from the cohort's order seed and the epoch alone.
        """
        generator = torch.Generator().manual_seed(derive(self._order_seed, "order", epoch))
        order = torch.randperm(self.examples, generator=generator)
        rows = self._split(order, batch_size)
        sizes = [len(some) for some in rows]
        on_device = order.to(self._device)
        noisy = self.train_noisy.index_select(1, on_device).split(sizes, dim=1)
        clean = self.train_clean[on_device].split(sizes)
        generator.manual_seed(derive(self._order_seed, "augment", epoch))
        for images, labels, true in zip(self._raw(epoch, rows), noisy, clean, strict=True):
            inputs = self._augment(images, generator, self._mean)
            yield Batch(self._normalised(inputs), labels, true)

    def _raw(self, epoch: int, rows: list[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Training inputs as stored, batch by batch, on the device."""
        if not isinstance(self._train, ImageFiles):
            for some in rows:
                yield self._train.index_select(0, some.to(self._device))  # [some] is slower
            return
        crop_seed = derive(self._order_seed, "crop", epoch)
        with self._train.stream([some.numpy() for some in rows], crop_seed) as stream:
            for images in stream:
                yield torch.from_numpy(images).to(self._device)
            self.stall_share = stream.stall_share

    def steps(self, batch_size: int) -> int:
        """Batches an epoch."""
        return len(self._split(torch.arange(self.examples), batch_size))

    @staticmethod
    def _split(order: torch.Tensor, batch_size: int) -> list[torch.Tensor]:
        """Batches of `batch_size`, the last of what is left; a single example joins the last but
        one, because a batch of one has no batch statistics.
        """
        batches = list(order.split(batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def first(self, examples: int) -> torch.Tensor:
        """Normalised inputs of the first training examples, as they are, [B, …]."""
        return self._part(self._train, slice(0, min(examples, self.examples)))

    def val_inputs(self, which: slice) -> torch.Tensor:
        """Normalised validation inputs [B, …]."""
        return self._part(self._val, which)

    def test_inputs(self, which: slice) -> torch.Tensor:
        """Normalised test inputs [B, …]."""
        return self._part(self._test, which)

    def _inputs(self, spec: DataSpec, part: str) -> Inputs:
        array = getattr(self.dataset, f"{part}_x")
        if isinstance(array, ImageFiles):
            return array
        if self._device.type == "cpu":
            return _put(array, self._device)
        return _resident(
            json.dumps([spec.name, spec.classes, spec.root, dict(spec.options)]),
            part,
            str(self._device),
        )

    def _part(self, inputs: Inputs, which: slice) -> torch.Tensor:
        some = inputs[which]
        if isinstance(some, np.ndarray):
            some = torch.from_numpy(some).to(self._device)
        return self._normalised(some)

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        return (x.to(self._dtype) - self._mean) / self._std


@functools.lru_cache(maxsize=6)
def _resident(data: str, part: str, device: str) -> torch.Tensor:
    """A data set's array on an accelerator, kept there for the process's next cohorts."""
    name, classes, root, options = json.loads(data)
    dataset: Dataset = DataSpec(name, classes, root, options).load()
    return _put(getattr(dataset, f"{part}_x"), torch.device(device))


def _put(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    with warnings.catch_warnings():
        # Data sets are read-only on purpose, and nothing here writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array).to(device)
