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

_STOP_CHECK_S = 1.0  # seconds between two checks whether the study has been asked to stop

RowWriter = Callable[[Mapping[str, Any], list[MemberResult], str, datetime], None]
"""Writes rows to storage: (Tune config, results, device name, start); raises where it fails."""


class Checkpointer(Protocol):
    """Stores cohorts in training, and says whether the study has been asked to stop."""

    @property
    def every_s(self) -> float | None:
        """Seconds between two checkpoints; None stores one only when the study stops."""

    def load(self, cohort_id: str) -> bytes | None:
        """The latest checkpoint of a cohort, or None."""

    def save(self, cohort_id: str, network_ids: list[str], state: bytes) -> None:
        """Store a checkpoint in place of the cohort's earlier one."""

    def discard(self, cohort_id: str) -> None:
        """Delete the checkpoint of a cohort, if there is one."""

    def stop_requested(self) -> bool:
        """Whether the study has been asked to stop."""


class StoppedError(Exception):
    """The study has been asked to stop; the cohort's checkpoint is stored."""


def train_cohort(
    config: Mapping[str, Any], *, write_rows: RowWriter, checkpointer: Checkpointer
) -> None:
    """Train one cohort, write its rows, then report its members' metrics to Ray Tune.

    Training continues from a checkpoint where there is one. Rows are written before anything is
    reported, so every result that the driver knows is on storage.

    Args:
        config: of the Tune trial: `spec` (see `CohortSpec.to_dict`), `cohort_id`, and what
            `write_rows` needs.
        write_rows: writes the cohort's rows.
        checkpointer: stores the cohort while it trains.
    """
    started = datetime.now(UTC)
    device = "cuda" if ray.get_gpu_ids() else "cpu"
    spec, cohort_id = CohortSpec.from_dict(config["spec"]), config["cohort_id"]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        assigned = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
        share = assigned.get("GPU", 1.0)
        if share < 1:  # others on this GPU need the rest of its memory
            torch.cuda.set_per_process_memory_fraction(share)
    save = CheckpointCallback(checkpointer, cohort_id, [m.network_id for m in spec.members])
    saved = _load_state(checkpointer.load(cohort_id))
    try:
        results = in_training_thread(lambda: train(spec, device=device, saved=saved, save=save))
    except StoppedError:
        tune.report({"networks": 0, "stopped": True})
        return
    write_rows(config, results, device_name(device), started)
    checkpointer.discard(cohort_id)
    # A list, because Tune flattens dictionaries on their way to the searcher. The driver needs no
    # answers to single test examples.
    members = [{"network_id": r.network_id, **r.metrics.to_row()} for r in results]
    for member in members:
        del member["test_correct"]
    memory_mb = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None
    tune.report({"networks": len(members), "members": members, "memory_mb": memory_mb})


class CheckpointCallback:
    """Called after each epoch: stores a checkpoint when one is due, and stops when asked to.

    Args:
        checkpointer: stores the checkpoints.
        cohort_id: the cohort.
        network_ids: its networks, in the cohort's order.
    """

    def __init__(self, checkpointer: Checkpointer, cohort_id: str, network_ids: list[str]) -> None:
        self._checkpointer = checkpointer
        self._cohort_id, self._network_ids = cohort_id, network_ids
        self._saved_at = self._checked_at = time.monotonic()

    def __call__(self, state: Callable[[], State]) -> None:
        """Store `state()` when a checkpoint is due.

        Raises:
            StoppedError: the study has been asked to stop.
        """
        now, every_s = time.monotonic(), self._checkpointer.every_s
        stop = False
        if now - self._checked_at >= _STOP_CHECK_S:
            self._checked_at, stop = now, self._checkpointer.stop_requested()
        if stop or (every_s is not None and now - self._saved_at >= every_s):
            content = io.BytesIO()
            torch.save(state(), content)
            self._checkpointer.save(self._cohort_id, self._network_ids, content.getvalue())
            self._saved_at = now
        if stop:
            raise StoppedError


def _load_state(content: bytes | None) -> State | None:
    """The state in a checkpoint; None where there is none or it cannot be read."""
    if content is None:
        return None
    try:
        state: State = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # a damaged file may raise anything; training from the start is safe
        return None
    return state
