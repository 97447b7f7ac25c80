"""One driver per study folder, and no rows from a worker of an earlier driver."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.execution import lease
from study.results.folder import StudyFolder


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(str(tmp_path))


def test_a_second_driver_is_refused_and_told_who_holds_it(folder: StudyFolder) -> None:
    held = lease.Lease(folder)
    with pytest.raises(lease.StudyBusyError, match="being run by process"):
        lease.Lease(folder)
    held.release()
    lease.Lease(folder).release()


def test_a_dead_drivers_hold_ends_with_it(folder: StudyFolder) -> None:
    hold_and_die = (
        "import os\n"
        "from study.execution.lease import Lease\n"
        "from study.results.folder import StudyFolder\n"
        f"held = Lease(StudyFolder({folder.uri!r})); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", hold_and_die]).returncode == -9
    lease.Lease(folder).release()


def test_a_worker_of_an_earlier_driver_may_not_write(folder: StudyFolder) -> None:
    first = lease.Lease(folder)
    lease.check(folder, first.token)
    first.release()
    second = lease.Lease(folder)
    lease.check(folder, second.token)
    with pytest.raises(lease.LostLeaseError):
        lease.check(folder, first.token)


def test_the_file_names_the_driver_and_may_have_other_fields(folder: StudyFolder) -> None:
    held = lease.Lease(folder)
    holder = lease.LeaseHolder.read(folder)
    assert holder is not None
    assert (holder.token, holder.pid, holder.released) == (held.token, os.getpid(), None)
    held.release()
    folder.write_bytes(".driver", b'{"token": "another", "field_of_another_version": 1}')
    assert lease.LeaseHolder.read(folder) == lease.LeaseHolder("another")
    for damaged in (b"", b"{", b"[]", b"{}"):
        folder.write_bytes(".driver", damaged)
        assert lease.LeaseHolder.read(folder) is None
