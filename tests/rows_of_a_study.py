"""What two runs of a study must have in common, whatever happened to them."""

from pathlib import Path
from typing import Any

from study.results.folder import StudyFolder

OF_THE_RUN = {  # columns that differ between two runs of a study
    "cohort_id",
    "networks_in_cohort",
    "wall_s",
    "host",
    "device",
    "started_utc",
    "finished_utc",
    "config_sha256",
    "git_commit",
    "git_dirty",
}


def contents(folder: Path | str) -> dict[str, Any]:
    """{table: rows without the columns of the run}; fails if a row is there twice."""
    tables = {}
    for table, key in (("trials", ["network_id"]), ("epochs", ["network_id", "epoch"])):
        rows = StudyFolder(str(folder)).read(table).to_pylist()
        keyed = {
            tuple(row[k] for k in key): {k: repr(v) for k, v in row.items() if k not in OF_THE_RUN}
            for row in rows
        }
        assert len(keyed) == len(rows)
        tables[table] = keyed
    assert not list(Path(folder).rglob("*.tmp"))  # of a URI, nothing is found
    return tables
