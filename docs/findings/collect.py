"""Copies the rows of finished studies into this folder: one file per stage, without host names.

    python docs/findings/collect.py results/class-count results/noise-rate …

The copy is a study folder like the original, so every command that reads one works on it. Epochs
are left out: no number of the page needs them.
"""

import shutil
import sys
from pathlib import Path

import pyarrow as pa

from analysis.verdict import compute
from study.results.folder import StudyFolder
from study.results.schema import STAGES
from study.results.table_files import compacted_metadata, compacted_name

HERE = Path(__file__).parent
FILES = ("study.yaml", "plan.json", "noise.parquet")


def collect(source: str) -> None:
    """Copy one study, in place of an earlier copy."""
    study = StudyFolder.at(source)
    refused = compute(source).verdict.pooled.refused
    if refused:
        raise SystemExit(f"{source}: {refused}")
    target = HERE / Path(source).name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    copy = StudyFolder.at(str(target))
    for name in FILES:
        content = study.read_bytes(name)
        if content is not None:
            copy.write_bytes(name, content)
    for stage in STAGES:
        rows = study.read("trials", [stage])
        column = rows.schema.get_field_index("host")
        rows = rows.set_column(column, rows.schema.field(column), pa.array(["-"] * len(rows)))
        cohorts = rows.column("cohort_id").unique().to_pylist()
        rows = rows.replace_schema_metadata(compacted_metadata(cohorts))
        copy.write_table(rows, "trials", stage, compacted_name("rows"))


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        collect(folder)
