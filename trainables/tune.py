"""The Ray Tune trainable: one Tune trial trains one cohort and writes its rows."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import ray
import torch
from ray import tune

from trainables.engine.runtime import device_name, in_training_thread
from trainables.engine.trainer import CohortSpec, MemberResult, State, train

_LOOK_EVERY_S = 1.0  # how often a worker looks whether it is to stop

Write = Callable[[Mapping[str, Any], list[MemberResult], str, datetime], None]
"""(Tune config, results, device name, start) → rows on storage; raises where it could not."""


class Keep(Protocol):
    """Where cohorts in training are kept, and whether the study is to stop."""

    @property
    def every_s(self) -> float | None:
        """Seconds between two checkpoints; None keeps none but at a stop."""

    def load(self, cohort_id: str) -> bytes | None:
        """What was kept last."""

    def save(self, cohort_id: str, network_ids: list[str], state: bytes) -> None:
        """Keep this instead."""

    def discard(self, cohort_id: str) -> None:
        """Keep nothing."""

    def stop_wanted(self) -> bool:
        """Whether the study is to stop."""


class StoppedError(Exception):
    """The study is to stop; this cohort is kept."""


def train_cohort(config: Mapping[str, Any], *, write: Write, keep: Keep) -> None:
    """Train the cohort `config["spec"]`, write its rows, then report its members' metrics.

    Goes on from a checkpoint where there is one. Rows are written before anything is reported, so
    what the driver has heard of is on storage.
    """
    started = datetime.now(UTC)
    device = "cuda" if ray.get_gpu_ids() else "cpu"
    spec, cohort_id = CohortSpec.from_dict(config["spec"]), config["cohort_id"]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    saver = _Saver(keep, cohort_id, [m.network_id for m in spec.members])
    saved = _loaded(keep.load(cohort_id))
    try:
        results = in_training_thread(lambda: train(spec, device=device, saved=saved, save=saver))
    except StoppedError:
        tune.report({"networks": 0, "stopped": True})
        return
    write(config, results, device_name(device), started)
    keep.discard(cohort_id)
    # A list, because Tune flattens dictionaries on their way to the searcher.
    members = [{"network_id": r.network_id, **r.metrics} for r in results]
    memory_mb = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None
    tune.report({"networks": len(members), "members": members, "memory_mb": memory_mb})


class _Saver:
    """Called after each epoch: keeps the cohort when it is time, ends it when that is wanted."""

    def __init__(self, keep: Keep, cohort_id: str, network_ids: list[str]) -> None:
        self._keep, self._cohort_id, self._network_ids = keep, cohort_id, network_ids
        self._saved = self._looked = time.monotonic()

    def __call__(self, state: Callable[[], State]) -> None:
        now, every = time.monotonic(), self._keep.every_s
        stop = False
        if now - self._looked >= _LOOK_EVERY_S:
            self._looked, stop = now, self._keep.stop_wanted()
        if stop or (every is not None and now - self._saved >= every):
            content = io.BytesIO()
            torch.save(state(), content)
            self._keep.save(self._cohort_id, self._network_ids, content.getvalue())
            self._saved = now
        if stop:
            raise StoppedError


def _loaded(content: bytes | None) -> State | None:
    """A checkpoint's state; None where there is none, or it is of no use to this version."""
    if content is None:
        return None
    try:
        state: State = torch.load(io.BytesIO(content), weights_only=True)
    except (
        Exception
    ):  # whatever a damaged file makes of the loader: training from the start is safe
        return None
    return state
