"""Parts appear whole or not at all, and only committed cohorts are read."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.results import EPOCHS, SCHEMA_VERSION, TRIALS, ResultsError, StudyFolder


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
    found = folder.read("trials")
    assert found.schema.equals(TRIALS)
    assert found.column("epsilon").to_pylist() == [1.5]
    assert folder.read("epochs").num_rows == 2
    assert folder.read("trials", stages=["sweep"]).num_rows == 0


def test_any_parquet_reader_reads_the_folder(folder: StudyFolder) -> None:
    folder.write_part("search", "c1", [trial("a")], epochs("a"))
    folder.write_part("confirm", "c2", [trial("b")], epochs("b"))
    assert pq.read_table(folder.file("trials")).num_rows == 2


def test_same_cohort_twice_is_there_once(folder: StudyFolder) -> None:
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
    folder.discard_uncommitted()
    assert not torn.exists()
    assert list(folder.parts("epochs", "search")) == ["done"]


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
