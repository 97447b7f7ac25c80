"""Replaces many small part files by one, and removes the files that killed processes left.

Only a study's driver may call these functions. They may be interrupted at any point: no row is
lost or read twice, because a compacted file lists the cohorts whose parts it replaces.
"""

from __future__ import annotations

from study.results.atomic_write import is_temporary
from study.results.folder import SCHEMAS, StudyFolder, TableName
from study.results.schema import STAGES, Stage

_TABLES: tuple[TableName, ...] = ("epochs", "trials")  # in the order in which they are written


def compact(folder: StudyFolder, stage: Stage, at_least: int = 2) -> int:
    """Replace the part files of a stage by one file per table.

    Args:
        folder: the study.
        stage: the stage to compact.
        at_least: do nothing if there are fewer committed parts.

    Returns:
        Number of cohorts whose parts were replaced.

    Raises:
        ResultsError: a compacted file is damaged.
    """
    # Workers may be writing. List `trials` first: the epochs of its cohorts are then listed too,
    # except where listings are not up to date; such a cohort is left for the next time.
    files = {table: folder.table_files(table, stage) for table in reversed(_TABLES)}
    cohorts = sorted(files["trials"].live_parts.keys() & files["epochs"].cohorts)
    if len(cohorts) < at_least:
        return 0
    for table in _TABLES:
        live = files[table].live_parts
        merged = [cohort_id for cohort_id in cohorts if cohort_id in live]
        if not merged:
            continue  # an interrupted call has written this table's file already
        rows = folder.load(table, [live[cohort_id] for cohort_id in merged], SCHEMAS[table])
        folder.write_compacted(rows, table, stage, merged)
    if any(set(cohorts) - folder.table_files(table, stage).replaced for table in _TABLES):
        # An object store that does not list the new files yet. Without the parts a reader would
        # miss their rows; the next run removes them.
        return len(cohorts)
    for table in reversed(_TABLES):
        for cohort_id in cohorts:
            if cohort_id in files[table].parts:
                folder.delete_path(files[table].parts[cohort_id])
    return len(cohorts)


def discard_uncommitted(folder: StudyFolder) -> None:
    """Remove the files that killed processes left.

    These are `epochs` parts without a `trials` part, temporary files, and parts that a compacted
    file has replaced.

    Args:
        folder: the study.

    Raises:
        ResultsError: a compacted file is damaged.
    """
    folder.wait_for_listing([f"trials/{stage}" for stage in STAGES])
    for stage in STAGES:
        # List `trials` last: a cohort that a late worker commits meanwhile is then not deleted.
        files = {table: folder.table_files(table, stage) for table in _TABLES}
        committed = files["trials"].cohorts
        for table in reversed(_TABLES):
            for cohort_id, path in files[table].parts.items():
                if cohort_id in files[table].replaced or cohort_id not in committed:
                    folder.delete_path(path)
            for name in folder.file_names(f"{table}/{stage}"):
                if is_temporary(name):
                    folder.delete(f"{table}/{stage}/{name}")
