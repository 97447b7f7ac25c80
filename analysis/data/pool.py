"""Several study folders as one: more cells, or more seeds of the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.data.load import LoadError, Study, load

_FREE = (
    "name",
    "seed",
    "storage",
    "resources",
    "analysis",
)  # settings that change no network's kind
_DRAWS = ["seed", "noise_seed", "init_seed", "order_seed"]


def load_pooled(uris: Sequence[str], margin: float | None = None) -> Study:
    """Read study folders into one study.

    Two folders whose study files differ only in name, seed, storage, resources, margin and numbers
    of seeds hold the same cells: their replicates are pooled. Otherwise cells of one name are told
    apart by their study's name. Replicates of two folders are the same where their noise,
    initialisation and order have the same seeds, and networks of one id are one network.

    Args:
        uris: study folders, local or pyarrow filesystem URIs.
        margin: δ for all; needed where their own differ.

    Raises:
        LoadError: as `analysis.data.load.load`; no folder; a folder given twice; margins that differ.
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
    kinds = _kinds(studies)
    names = _names(studies)
    alike = {kind: [n for n, k in zip(names, kinds, strict=True) if k == kind] for kind in kinds}
    frames, notes = [], []
    prefixes = tuple(f"{i}:" for i in range(len(studies)))
    for study, name, kind, prefix in zip(studies, names, kinds, prefixes, strict=True):
        own = study.trials["network_id"]  # unique in one folder only
        frame = study.trials.assign(folder=study.uri, own_id=own, network_id=prefix + own)
        if len(alike) > 1:
            frame["cell_id"] = f"{alike[kind][0]}: " + frame["cell_id"]
        frames.append(frame)
        notes += [f"{name}: {note}" for note in study.notes]
    for together in alike.values():
        if len(together) > 1:
            notes.append(
                f"{', '.join(together)} differ in seeds alone; their replicates are pooled."
            )
    trials = pd.concat(frames, ignore_index=True)
    trials["seed"] = _replicates(trials)
    again = trials.duplicated(["cell_id", "own_id", "seed"])
    if again.any():
        notes.append(f"{again.sum()} networks are in more than one folder and count once.")
        trials = trials[~again]
    config = {**studies[0].config, "analysis": {"margin": margins.pop()}}
    trials = trials.drop(columns=["folder", "own_id"]).reset_index(drop=True)
    return Study(tuple(uris), trials, config, tuple(notes), prefixes)


def _kinds(studies: Sequence[Study]) -> list[str]:
    """What makes studies comparable cell by cell, as text; a folder without study file is alone."""
    kinds = []
    for study in studies:
        config: dict[str, Any] = {k: v for k, v in study.config.items() if k not in _FREE}
        for stage in ("sweep", "confirm"):
            if isinstance(config.get(stage), dict):
                config[stage] = {k: v for k, v in config[stage].items() if k != "seeds"}
        kinds.append(repr(sorted(config.items())) if config else study.uri)
    return kinds


def _names(studies: Sequence[Study]) -> list[str]:
    """What tells the studies apart: their names, else their folders' names, else the folders."""
    named = [study.name for study in studies]
    folders = [study.uri.rstrip("/").rpartition("/")[2] for study in studies]
    for names in (named, folders):
        if len(set(names)) == len(names):
            return names
    return [study.uri for study in studies]


def _replicates(trials: pd.DataFrame) -> pd.Series:
    """Numbers of replicates, the same for the same draws in any folder."""
    draws = trials[_DRAWS].copy()
    unknown = draws[_DRAWS[1:]].isna().any(axis=1)
    draws["folder"] = trials["folder"].where(unknown, "")
    return draws.groupby([*_DRAWS, "folder"], dropna=False, sort=True).ngroup()
