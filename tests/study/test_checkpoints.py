"""Checkpoints are complete, written only under the study's own driver, and deleted in time."""

from pathlib import Path

import pytest

from study.execution import lease
from study.execution.checkpoints import CheckpointStore
from study.execution.signals import StopListener
from study.results.folder import StudyFolder


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    folder = StudyFolder(str(tmp_path))
    folder.write_bytes(".driver", b'{"token": "current"}')
    return CheckpointStore(folder, "current", 60.0)


def test_a_saved_cohort_is_loaded(store: CheckpointStore) -> None:
    assert store.load("search-1") is None
    assert store.cohorts() == {}
    store.save("search-1", ["b", "a"], b"one")
    store.save("search-1", ["b", "a"], b"two")
    store.save("confirm-2", ["c"], b"three")
    assert store.load("search-1") == b"two"
    assert store.cohorts() == {"search-1": ["b", "a"], "confirm-2": ["c"]}


def test_a_worker_of_an_earlier_driver_cannot_save(store: CheckpointStore) -> None:
    late = CheckpointStore(store.folder, "earlier", 60.0)
    with pytest.raises(lease.LostLeaseError):
        late.save("search-1", ["a"], b"late")
    assert store.cohorts() == {}


def test_useless_files_are_deleted(store: CheckpointStore, tmp_path: Path) -> None:
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
    assert store.cohorts() == {}


@pytest.mark.parametrize("content", [b"", b"half a f", b"[]", b"[1, 2]", b'{"networks": ["a"]}'])
def test_a_listing_of_another_version_is_ignored(
    store: CheckpointStore, tmp_path: Path, content: bytes
) -> None:
    store.save("search-1", ["a"], b"one")
    store.save("search-2", ["b"], b"two")
    (tmp_path / "checkpoints/search-1.json").write_bytes(content)
    assert store.cohorts() == {"search-2": ["b"]}


def test_a_stop_request_is_for_one_driver(store: CheckpointStore) -> None:
    assert not store.stop_requested()
    StopListener(store.folder, "earlier").request_stop()
    assert not store.stop_requested()
    StopListener(store.folder, "current").request_stop()
    assert store.stop_requested()
