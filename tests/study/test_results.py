"""Parts appear whole or not at all, and only committed cohorts are read."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from study.results.compaction import compact, discard_uncommitted
from study.results.folder import ResultsError, StudyFolder, TableName
from study.results.schema import EPOCHS, SCHEMA_VERSION, TRIALS


def fake_row(schema: pa.Schema, **values: Any) -> dict[str, Any]:
    return {name: values.get(name) for name in schema.names}


def trial(network_id: str, **values: Any) -> dict[str, Any]:
    return fake_row(TRIALS, network_id=network_id, schema_version=SCHEMA_VERSION, **values)


def epochs(network_id: str) -> list[dict[str, Any]]:
    return [fake_row(EPOCHS, network_id=network_id, epoch=i, val_acc_noisy=0.5) for i in (1, 2)]


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(str(tmp_path / "study"))


def test_rows_come_back_with_their_schema(folder: StudyFolder) -> None:
    folder.write_part("search", "c1", [trial("a", epsilon=1.5)], epochs("a"))
    trials = folder.read("trials")
    assert trials.schema.equals(TRIALS)
    assert trials.column("epsilon").to_pylist() == [1.5]
    assert folder.read("epochs").num_rows == 2
    assert folder.read("trials", stages=["sweep"]).num_rows == 0


def test_rows_of_a_version_with_fewer_columns_are_read(folder: StudyFolder) -> None:
    added = {"replicate", "test_correct"}
    folder.write_part("confirm", "c1", [trial("a")], epochs("a"))
    folder.write_part("confirm", "c2", [trial("b", replicate=1, test_correct=b"x")], epochs("b"))
    path = folder.file("trials", "confirm", "part-c1.parquet")
    pq.write_table(pq.read_table(path).drop_columns(sorted(added)), path)

    def check() -> None:
        rows = {r["network_id"]: r for r in folder.read("trials").to_pylist()}
        assert [rows["a"][name] for name in sorted(added)] == [None, None]
        assert [rows["b"][name] for name in sorted(added)] == [1, b"x"]

    check()
    assert added <= set(folder.read_part("trials", "confirm", "c1").column_names)
    assert compact(folder, "confirm") == 2
    check()


def test_any_parquet_reader_reads_the_folder(folder: StudyFolder) -> None:
    folder.write_part("search", "c1", [trial("a")], epochs("a"))
    folder.write_part("confirm", "c2", [trial("b")], epochs("b"))
    assert pq.read_table(folder.file("trials")).num_rows == 2


def test_a_cohort_written_twice_is_read_once(folder: StudyFolder) -> None:
    for _ in range(2):
        folder.write_part("search", "c1", [trial("a")], epochs("a"))
    assert folder.read("trials").num_rows == 1


@pytest.mark.parametrize("table", ["trials", "epochs"])
def test_a_write_that_fails_leaves_nothing_that_is_read(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    real, calls = pq.write_table, iter([table == "epochs", table == "trials"])

    def half_written(data: pa.Table, stream: Any, **options: Any) -> None:
        if next(calls):
            stream.write(b"PAR1 half a file")
            raise OSError(28, os.strerror(28))
        real(data, stream, **options)

    monkeypatch.setattr(pq, "write_table", half_written)
    with pytest.raises(OSError, match="No space left"):
        folder.write_part("search", "c1", [trial("a")], epochs("a"))
    monkeypatch.undo()
    assert folder.read("trials").num_rows == 0
    assert folder.read("epochs").num_rows == 0
    assert not list(Path(folder.path).rglob("*.tmp"))
    assert not list(Path(folder.file("trials")).rglob("part-*"))


def test_what_a_killed_writer_left_is_not_read_and_then_removed(folder: StudyFolder) -> None:
    folder.write_part("search", "done", [trial("a")], epochs("a"))
    folder.write_part("search", "killed", [trial("b")], epochs("b"))
    Path(folder.file("trials", "search", "part-killed.parquet")).unlink()
    torn = Path(folder.file("trials", "search", ".part-torn.parquet.00ff.tmp"))
    torn.write_bytes(b"PAR1")
    assert folder.read("trials").column("network_id").to_pylist() == ["a"]
    assert set(folder.read("epochs").column("network_id").to_pylist()) == {"a"}
    discard_uncommitted(folder)
    assert not torn.exists()
    assert list(folder.table_files("epochs", "search").parts) == ["done"]


def test_a_row_that_lacks_a_column_is_not_written(folder: StudyFolder) -> None:
    with pytest.raises(KeyError):
        folder.write_part("search", "c1", [{"network_id": "a"}], [])


def test_a_damaged_part_is_named(folder: StudyFolder) -> None:
    folder.write_part("search", "c1", [trial("a")], epochs("a"))
    Path(folder.file("trials", "search", "part-c1.parquet")).write_bytes(b"not parquet")
    with pytest.raises(ResultsError, match="cannot read trials"):
        folder.read("trials")


def test_another_schema_version_is_refused(folder: StudyFolder) -> None:
    folder.write_part("search", "c1", [{**trial("a"), "schema_version": 99}], epochs("a"))
    with pytest.raises(ResultsError, match=r"schema_version \[99\] found, this program reads 1"):
        folder.read("trials")


class KilledError(BaseException):
    """Stands for SIGKILL: nothing below may clean up after it."""


class DyingDisk(pafs.LocalFileSystem):
    """A disk whose user is killed before its n-th rename or removal."""

    steps = 0

    def _step(self) -> None:
        if DyingDisk.steps == 0:
            raise KilledError
        DyingDisk.steps -= 1

    def move(self, src: str, dest: str) -> None:
        self._step()
        super().move(src, dest)

    def delete_file(self, path: str) -> None:
        self._step()
        super().delete_file(path)


@pytest.mark.parametrize("tidied", [False, True], ids=["compact again", "tidy up first"])
def test_compaction_killed_anywhere_neither_doubles_nor_loses_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tidied: bool
) -> None:
    for steps in range(12):
        folder = StudyFolder(str(tmp_path / str(steps)))
        for name in "xy":
            folder.write_part("search", f"c{name}", [trial(name)], epochs(name))
        assert compact(folder, "search") == 2
        for name in "abc":
            folder.write_part("search", f"c{name}", [trial(name)], epochs(name))
        DyingDisk.steps = steps
        with monkeypatch.context() as patch:
            patch.setattr(StudyFolder, "filesystem", property(lambda _: DyingDisk()))
            try:
                compact(folder, "search")
                ended = True
            except KilledError:
                ended = False
        for _ in range(2):  # after the kill, and after the next run
            read = {
                t: folder.read(t).column("network_id").to_pylist() for t in ("trials", "epochs")
            }
            assert sorted(read["trials"]) == list("abcxy"), steps
            assert sorted(read["epochs"]) == sorted("abcxy" * 2), steps
            if tidied:
                discard_uncommitted(folder)
            compact(folder, "search", at_least=1)
        if ended:
            break
    assert ended
    assert steps == 8  # two files in place, six removed
    assert len(list(Path(folder.path).rglob("*.parquet"))) == 4


def test_a_reader_beside_a_compaction_lists_again(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        folder.write_part("search", f"c{name}", [trial(name)], epochs(name))
    real, calls = StudyFolder.load, iter([True])

    def load(self: StudyFolder, table: TableName, paths: list[str], schema: pa.Schema) -> pa.Table:
        if next(calls, False):
            monkeypatch.setattr(StudyFolder, "load", real)
            compact(folder, "search")
        return real(self, table, paths, schema)

    for table, count in (("trials", 2), ("epochs", 4)):
        monkeypatch.setattr(StudyFolder, "load", load)
        assert folder.read(table).num_rows == count
