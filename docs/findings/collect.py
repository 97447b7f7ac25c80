"""Copies the rows of finished studies into this folder: one file per stage, without host names.

    python docs/findings/collect.py results/class-count results/noise-rate …

The copy is a study folder like the original, so every command that reads one works on it. Epochs of
the search are left out: its networks are no fair sample, so nothing is computed from them.
"""

import shutil
import sys
from pathlib import Path

import pyarrow as pa

from analysis.exploratory.dynamics import NON_ADAPTIVE_STAGES
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
        trials = study.read("trials", [stage])
        cohorts = trials.column("cohort_id").unique().to_pylist()
        column = trials.schema.get_field_index("host")
        field = trials.schema.field(column)
        trials = trials.set_column(column, field, pa.array(["-"] * len(trials), pa.string()))
        tables = {"trials": trials}
        if stage in NON_ADAPTIVE_STAGES:
            tables["epochs"] = study.read("epochs", [stage])
        for name, rows in tables.items():
            if rows.num_rows:
                rows = rows.replace_schema_metadata(compacted_metadata(cohorts))
                copy.write_table(rows, name, stage, compacted_name("rows"))


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        collect(folder)
