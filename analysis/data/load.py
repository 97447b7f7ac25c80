"""Read a study folder into pandas frames, and refuse what would mislead.

Every other module of `analysis` starts from a `Study`. Accuracies are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from study.results.folder import ResultsError, StudyFolder
from study.results.schema import STAGES, STATUSES

DEFAULT_MARGIN = 0.005  # half a percentage point
ANALYTIC = "analytic:"  # arms `analytic:<rule>`
FACTORS = ["dataset", "noise_kind", "noise_rate", "model", "loss"]  # what names a cell

_ACCURACIES = [
    "train_acc_noisy",
    "train_acc_clean",
    "val_acc_noisy",
    "val_acc_clean",
    "test_acc",
    "best_val_acc_noisy",
]
_NEEDED = ["stage", "cell_id", "network_id", "dataset", "classes", "model", "loss", "epsilon"]


class LoadError(ValueError):
    """A study folder that cannot be analysed; the message is one line for the user."""


@dataclass(frozen=True)
class Study:
    """A study as read.

    Attributes:
        uris: where it was read from; several for a pooled study (`analysis.data.pool`).
        trials: one row a network, columns as in `study.results.schema.TRIALS`, with `noise_rate` for
            `noise_rate_asked`, and null accuracies of diverged networks filled with 1 / classes.
        config: the study file as run; empty where the folder has none.
        notes: sentences about rows that were left out or filled in.
        prefixes: what `trials` has in front of the network ids of each folder.
    """

    uris: tuple[str, ...]
    trials: pd.DataFrame
    config: dict[str, Any]
    notes: tuple[str, ...] = field(default=())
    prefixes: tuple[str, ...] = field(default=("",))

    @property
    def uri(self) -> str:
        """Where it was read from, for messages."""
        return ", ".join(self.uris)

    @property
    def name(self) -> str:
        """The study's name as in its rows, or names."""
        names = [str(name) for name in self.trials["study"].dropna().unique()]
        return " + ".join(names) or self.uri.rstrip("/").rpartition("/")[2]

    @property
    def margin(self) -> float:
        """Non-inferiority margin δ as a fraction, `analysis: {margin: …}` of the study file."""
        settings = self.config.get("analysis")
        value = settings.get("margin", DEFAULT_MARGIN) if isinstance(settings, dict) else None
        value = DEFAULT_MARGIN if value is None else value
        if not isinstance(value, int | float) or not 0 < value < 1:
            raise LoadError(f"{self.uri}: analysis.margin = {value!r}: allowed is 0 < δ < 1")
        return float(value)

    def stage(self, name: str) -> pd.DataFrame:
        """The rows of one stage (search | sweep | confirm); may be empty."""
        return self.trials[self.trials["stage"] == name]

    def epochs(
        self,
        columns: Sequence[str],
        stages: Iterable[str] = STAGES,
        networks: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Rows of `epochs`, with `trial`: the position of the network's row in `trials.index`.

        Args:
            columns: of `study.results.schema.EPOCHS`, besides network_id; only these are read.
            stages: which stages.
            networks: network_ids to keep; all by default.
        """
        wanted = ["network_id", *columns]
        tables = []
        for uri, prefix in zip(self.uris, self.prefixes, strict=True):
            read = _read(uri, "epochs", stages, wanted)
            if prefix:
                ids = pc.binary_join_element_wise(prefix, read.column(0), "")
                read = read.set_column(0, "network_id", ids)
            tables.append(read)
        table = pa.concat_tables(tables)
        known = self.trials["network_id"]
        if networks is not None:
            known = known[known.isin(list(networks))]
        position = pc.index_in(
            table.column("network_id"), value_set=pa.array(known, type=pa.string())
        )
        keep = pc.is_valid(position)
        frame = table.drop_columns(["network_id"]).filter(keep).to_pandas()
        where = pc.drop_null(position).to_numpy()
        frame.insert(0, "trial", known.index.to_numpy()[where])
        return frame


def load(uri: str) -> Study:
    """Read and check a study folder.

    Args:
        uri: a local folder or a pyarrow filesystem URI that holds `trials/<stage>/part-*.parquet`.

    Raises:
        LoadError: no finished network, another schema version, a damaged file, an empty column that
            names cells, an accuracy outside [0, 1], an unknown stage or status.
    """
    trials: pd.DataFrame = _read(uri, "trials").to_pandas()
    if trials.empty:
        raise LoadError(
            f"{uri}: no finished network found; a study folder holds trials/<stage>/part-*.parquet"
        )
    for column in _NEEDED:
        if trials[column].isna().any():
            raise LoadError(f"{uri}: trials: column {column!r} has empty values")
    _only(uri, trials, "stage", STAGES)
    _only(uri, trials, "status", STATUSES)
    for column in _ACCURACIES:
        bad = trials[column].notna() & ~trials[column].between(0, 1)
        if bad.any():
            raise LoadError(
                f"{uri}: trials: {column} = {trials.loc[bad, column].iloc[0]:g}: "
                "accuracies are fractions in [0, 1]"
            )
    trials = trials.rename(columns={"noise_rate_asked": "noise_rate"})
    trials["noise_kind"] = trials["noise_kind"].fillna("none")
    # Human labels and own matrices have a rate of their own: that of the data set's real labels.
    own_rate = trials.groupby("cell_id")["noise_rate_real"].transform("mean").round(3)
    trials["noise_rate"] = trials["noise_rate"].fillna(own_rate).fillna(0.0)
    notes: list[str] = []

    twice = trials.duplicated("network_id")
    if twice.any():
        notes.append(f"{twice.sum()} rows repeat a network_id; the first of each was kept.")
        trials = trials[~twice]

    # A diverged network counts at floor accuracy: to leave it out would flatter its arm.
    diverged = trials["status"] == "diverged"
    floor = 1.0 / trials["classes"]
    measured = [c for c in _ACCURACIES if c != "test_acc"]
    for column in measured:
        trials.loc[diverged, column] = trials.loc[diverged, column].fillna(floor[diverged])
    confirm = trials["stage"] == "confirm"
    trials.loc[diverged & confirm, "test_acc"] = trials.loc[diverged & confirm, "test_acc"].fillna(
        floor[diverged & confirm]
    )
    pruned = trials["status"] == "pruned"
    if (pruned & (trials["stage"] != "search")).any():
        notes.append(
            f"{(pruned & (trials['stage'] != 'search')).sum()} pruned networks outside the search "
            "were left out."
        )
        trials = trials[~pruned | (trials["stage"] == "search")]
    leaked = trials["test_acc"].notna() & (trials["stage"] != "confirm")
    if leaked.any():
        notes.append(
            f"{leaked.sum()} networks outside the confirm stage carry a test accuracy; "
            "it was not used, but something read the test set early."
        )
    return Study((uri,), trials.reset_index(drop=True), _config(uri), tuple(notes))


def cells(trials: pd.DataFrame) -> pd.DataFrame:
    """The cells that ε is judged in: one row a cell, in a stable order.

    A cell is judged where it has an analytic arm or a sweep over at least two ε; a cell of plain CE
    is a reference only.

    Returns:
        columns cell_id, classes and those of `FACTORS`.
    """
    analytic = trials["arm"].fillna("").astype(str).str.startswith(ANALYTIC)
    sweep = trials[trials["stage"] == "sweep"].groupby("cell_id")["epsilon"].nunique()
    wanted = set(trials.loc[analytic, "cell_id"]) | set(sweep[sweep > 1].index)
    mine = trials[trials["cell_id"].isin(wanted) & (trials["arm"] != "ce")]
    searched = mine.groupby("cell_id")["loss"].nunique() > 1  # `loss: joint`
    rows = mine.drop_duplicates("cell_id")
    rows = rows.assign(loss=rows["loss"].where(~rows["cell_id"].map(searched), "joint"))
    order = ["classes", "dataset", "model", "loss", "noise_kind", "noise_rate", "cell_id"]
    return rows.sort_values(order)[["cell_id", "classes", *FACTORS]].reset_index(drop=True)


def reference_rows(plain: pd.DataFrame, cell: pd.Series) -> pd.DataFrame:
    """Plain CE beside a cell: its own rows of arm `ce`, else those of the sibling cell.

    Args:
        plain: rows of arm `ce`.
        cell: a row of `cells`.
    """
    own = plain[plain["cell_id"] == cell["cell_id"]]
    if len(own) or plain.empty:
        return own
    same = plain["loss"] == "ce"
    for factor in ("dataset", "model", "noise_kind", "noise_rate"):
        same &= plain[factor] == cell[factor]
    return plain[same]


def response_metric(rows: pd.DataFrame) -> str:
    """The column that measures response: clean validation accuracy where every row has it.

    Selection never saw it where the study selects on noisy validation; noisy validation accuracy
    stands in where clean labels do not exist.
    """
    return "val_acc_clean" if rows["val_acc_clean"].notna().all() else "val_acc_noisy"


def provenance(study: Study) -> dict[str, Any]:
    """Who made the rows: counts, commits, versions, devices, hosts, first and last time."""
    t = study.trials

    def distinct(column: str) -> list[str]:
        return sorted(str(v) for v in t[column].dropna().unique())

    started, finished = t["started_utc"].min(), t["finished_utc"].max()
    hours = (t["wall_s"] / t["networks_in_cohort"].clip(lower=1)).sum() / 3600
    return {
        "study": study.name,
        "networks": {s: int((t["stage"] == s).sum()) for s in STAGES},
        "diverged": {s: int((study.stage(s)["status"] == "diverged").sum()) for s in STAGES},
        "config_sha256": distinct("config_sha256"),
        "git_commit": distinct("git_commit"),
        "git_dirty": bool(t["git_dirty"].fillna(False).astype(bool).any()),
        "versions": distinct("versions"),
        "device": distinct("device"),
        "host": distinct("host"),
        "started_utc": None if pd.isna(started) else started.isoformat(),
        "finished_utc": None if pd.isna(finished) else finished.isoformat(),
        "worker_hours": float(np.nan_to_num(hours)),
    }


def _read(
    uri: str, table: str, stages: Iterable[str] = STAGES, columns: list[str] | None = None
) -> pa.Table:
    try:
        return StudyFolder(uri).read(table, stages, columns)
    except (ResultsError, pa.ArrowException, OSError) as error:
        raise LoadError(" ".join(str(error).split())) from error


def _config(uri: str) -> dict[str, Any]:
    text = StudyFolder(uri).read_bytes("study.yaml")
    if text is None:
        return {}
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise LoadError(f"{uri}/study.yaml: {' '.join(str(error).split())}") from error
    return config if isinstance(config, dict) else {}


def _only(uri: str, trials: pd.DataFrame, column: str, allowed: Sequence[str]) -> None:
    unknown = sorted(set(trials[column].dropna().astype(str)) - set(allowed))
    if unknown:
        raise LoadError(
            f"{uri}: trials: {column} = {unknown[0]!r}: allowed is {' | '.join(allowed)}"
        )
