"""Cohorts in training are kept whole, by the study's own driver alone, and forgotten in time."""

from pathlib import Path

import pytest

from study.execution import lease
from study.execution import signals as stopping
from study.execution.checkpoints import CheckpointStore
from study.results.folder import StudyFolder


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    folder = StudyFolder(str(tmp_path))
    folder.write_bytes(".driver", b'{"token": "mine"}')
    return CheckpointStore(folder, "mine", 60.0)


def test_what_is_kept_comes_back(store: CheckpointStore) -> None:
    assert store.load("search-1") is None
    assert store.begun() == {}
    store.save("search-1", ["b", "a"], b"one")
    store.save("search-1", ["b", "a"], b"two")
    store.save("confirm-2", ["c"], b"three")
    assert store.load("search-1") == b"two"
    assert store.begun() == {"search-1": ["b", "a"], "confirm-2": ["c"]}


def test_a_worker_whose_driver_is_gone_keeps_nothing(store: CheckpointStore) -> None:
    late = CheckpointStore(store.folder, "earlier", 60.0)
    with pytest.raises(lease.LostLeaseError):
        late.save("search-1", ["a"], b"late")
    assert store.begun() == {}


def test_what_is_of_no_more_use_goes(store: CheckpointStore, tmp_path: Path) -> None:
    store.save("search-1", ["a"], b"one")
    store.save("search-2", ["b"], b"two")
    (tmp_path / "checkpoints/.search-3.pt.0123.tmp").write_bytes(b"half")
    store.discard_all_but({"search-2"})
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "search-2.json",
        "search-2.pt",
    ]
    store.discard("search-2")
    store.discard("search-2")
    assert store.begun() == {}


def test_a_stop_is_for_the_driver_that_was_asked(store: CheckpointStore) -> None:
    assert not store.stop_wanted()
    stopping.Stopper(store.folder, "earlier")._ask_workers()
    assert not store.stop_wanted()
    stopping.Stopper(store.folder, "mine")._ask_workers()
    assert store.stop_wanted()
