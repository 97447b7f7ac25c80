"""Several study folders as one: more cells, or more seeds of the same cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.data.load import LoadError, Study, load
from study.results.plan_summary import PlanSummary
from study.results.schema import Stage

# Settings that may differ between studies of the same cells.
_IGNORED_SETTINGS = ("name", "seed", "storage", "resources", "analysis")
_NUMBERS = ("replicates", "seeds", "replicate_seeds")
_DRAWS = ["seed", "noise_seed", "init_seed", "order_seed"]


def load_pooled(uris: Sequence[str], margin: float | None = None) -> Study:
    """Read study folders into one study.

    Folders whose study files differ only in name, seed, storage, resources, margin and numbers of
    seeds and replicates hold the same cells, and their networks are pooled. Otherwise the study's
    name is put in front of the cell ids, so that the cells stay apart. Seeds of two folders are the
    same where noise, initialisation and order have the same seeds; networks of the same cell, seed
    and id then count once. Searches of two folders are always different ones.

    Args:
        uris: study folders, local paths or pyarrow filesystem URIs.
        margin: δ for all studies; required where the study files have different margins.

    Raises:
        LoadError: no folder, a folder given twice, margins that differ, or a folder that
            `analysis.data.load.load` refuses.
    """
    if not uris:
        raise LoadError("no study folder given")
    if len(set(uris)) < len(uris):
        raise LoadError("a study folder is given twice")
    studies = [load(uri) for uri in uris]
    margins = {study.margin for study in studies} if margin is None else {margin}
    if len(margins) > 1:
        shown = ", ".join(f"{m:g}" for m in sorted(margins))
        raise LoadError(f"the studies have different margins ({shown}): give one with --margin")
    if len(studies) == 1 and margin is None:
        return studies[0]
    names, designs = _names(studies), _designs(studies)
    names_of = {d: [n for n, k in zip(names, designs, strict=True) if k == d] for d in designs}
    frames, notes, plans = [], [], []
    prefixes = tuple(f"{i}:" for i in range(len(studies)))
    for study, name, design, prefix in zip(studies, names, designs, prefixes, strict=True):
        # Network ids are unique within one folder only.
        network_id = study.trials["network_id"]
        frame = study.trials.assign(
            folder=study.uri, id_in_folder=network_id, network_id=prefix + network_id
        )
        plan = study.plans[0]
        if len(names_of) > 1:
            first = names_of[design][0]
            frame["cell_id"] = f"{first}: " + frame["cell_id"]
            plan = None if plan is None else _renamed(plan, first)
        frames.append(frame)
        plans.append(plan)
        notes += [f"{name}: {note}" for note in study.notes]
    for same_design in names_of.values():
        if len(same_design) > 1:
            notes.append(
                f"{', '.join(same_design)} differ in seeds alone; their replicates are pooled."
            )
    trials = pd.concat(frames, ignore_index=True)
    trials["seed"] = _replicates(trials)
    # The searches of two studies are different ones, also where they have the same number.
    search = trials.groupby(["folder", "replicate"], sort=True).ngroup().astype("Int64")
    repeated = trials.duplicated(["cell_id", "id_in_folder", "seed"])
    again = trials[repeated]
    if repeated.any():
        notes.append(f"{repeated.sum()} networks are in more than one folder and count once.")
    trials["replicate"] = search.where(trials["replicate"].notna()).astype("Float64").astype(float)
    trials = trials[~repeated]
    confirmed = again[again["stage"] == Stage.CONFIRM]
    keys = zip(confirmed["cell_id"], confirmed["arm"], confirmed["replicate"].isna(), strict=True)
    of_arm = Counter((str(cell), str(arm), bool(pooled)) for cell, arm, pooled in keys)
    config = {**studies[0].config, "analysis": {"margin": margins.pop()}}
    trials = trials.drop(columns=["folder", "id_in_folder"]).reset_index(drop=True)
    return Study(
        uris=tuple(uris),
        trials=trials,
        config=config,
        notes=tuple(notes),
        prefixes=prefixes,
        plans=tuple(plans),
        repeats=of_arm,
        repeats_by_stage=Counter(again["stage"].astype(str)),
    )


def _renamed(plan: PlanSummary, name: str) -> PlanSummary:
    """The plan with the name in front of its cell ids."""
    cells = tuple(replace(cell, cell_id=f"{name}: {cell.cell_id}") for cell in plan.cells)
    return replace(plan, cells=cells)


def _designs(studies: Sequence[Study]) -> list[str]:
    """For each study the settings that its cells depend on, as text.

    The design of a folder without a study file is its URI.
    """
    designs = []
    for study in studies:
        config: dict[str, Any] = {
            key: value for key, value in study.config.items() if key not in _IGNORED_SETTINGS
        }
        for stage in ("search", "sweep", "confirm"):
            if isinstance(config.get(stage), dict):
                config[stage] = {k: v for k, v in config[stage].items() if k not in _NUMBERS}
        designs.append(repr(sorted(config.items())) if config else study.uri)
    return designs


def _names(studies: Sequence[Study]) -> list[str]:
    """Distinct names of the studies: theirs, else their folders' names, else the URIs."""
    study_names = [study.name for study in studies]
    folder_names = [study.uri.rstrip("/").rpartition("/")[2] for study in studies]
    for names in (study_names, folder_names):
        if len(set(names)) == len(names):
            return names
    return [study.uri for study in studies]


def _replicates(trials: pd.DataFrame) -> pd.Series[int]:
    """Number of each row's replicate; equal draws have equal numbers, also across folders."""
    draws = trials[_DRAWS].copy()
    unknown = draws[_DRAWS[1:]].isna().any(axis=1)
    draws["folder"] = trials["folder"].where(unknown, "")
    return draws.groupby([*_DRAWS, "folder"], dropna=False, sort=True).ngroup()
