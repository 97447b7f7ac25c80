"""Checkpoints of a cohort in training: when they are stored, and which of them can be read."""

from dataclasses import dataclass, field

import pytest

from trainables import tune
from trainables.tune import CheckpointCallback, StoppedError


@dataclass
class MemoryCheckpointer:
    every_s: float | None = None
    stop: bool = False
    saved: list[tuple[str, list[str], bytes]] = field(default_factory=list)

    def load(self, cohort_id: str) -> bytes | None:
        return self.saved[-1][2] if self.saved else None

    def save(self, cohort_id: str, network_ids: list[str], state: bytes) -> None:
        self.saved.append((cohort_id, network_ids, state))

    def discard(self, cohort_id: str) -> None:
        self.saved.clear()

    def stop_requested(self) -> bool:
        return self.stop


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(tune.time, "monotonic", lambda: now[0])
    return now


def test_a_checkpoint_is_stored_when_it_is_due(clock: list[float]) -> None:
    store = MemoryCheckpointer(every_s=60)
    save = CheckpointCallback(store, "search-1", ["a", "b"])
    for seconds in (30, 29, 1, 59, 1):
        clock[0] += seconds
        save(lambda: {"epoch": 3})
    assert [saved[:2] for saved in store.saved] == [("search-1", ["a", "b"])] * 2
    assert tune._load_state(store.load("search-1")) == {"epoch": 3}


def test_a_stop_stores_a_checkpoint_and_ends_training(clock: list[float]) -> None:
    store = MemoryCheckpointer(stop=True)
    save = CheckpointCallback(store, "search-1", ["a"])
    save(lambda: {"epoch": 1})  # too early to ask the storage
    assert not store.saved
    clock[0] += 1
    with pytest.raises(StoppedError):
        save(lambda: {"epoch": 2})
    assert tune._load_state(store.load("search-1")) == {"epoch": 2}


@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_training_starts_anew_without_a_readable_checkpoint(content: bytes | None) -> None:
    assert tune._load_state(content) is None
