"""Read a study folder into pandas frames, and refuse rows that would give a wrong verdict.

Every other module of `analysis` starts from a `Study`. Accuracies are fractions in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from analysis.data.superseded import superseded_choices
from study.results.arms import CE, Arm
from study.results.folder import STUDY_FILE, ResultsError, StudyFolder, TableName
from study.results.plan_summary import PlanSummary, read_plan_summary
from study.results.schema import AS_IS, READER_NAMES, STAGES, STATUSES, TRIALS, Stage, Status

DEFAULT_MARGIN = 0.005  # half a percentage point
FACTORS = ["dataset", "noise_kind", "noise_rate", "model", "loss"]  # they name a cell

_ACCURACIES = [
    "train_acc_noisy",
    "train_acc_clean",
    "val_acc_noisy",
    "val_acc_clean",
    "test_acc",
    "best_val_acc_noisy",
]
_REQUIRED = ["stage", "cell_id", "network_id", "dataset", "classes", "model", "loss", "epsilon"]


class LoadError(ValueError):
    """A study folder that cannot be analysed; the message is one line for the user."""


@dataclass(frozen=True)
class Study:
    """A study as read.

    Attributes:
        uris: the folders it was read from; several for a pooled study (`analysis.data.pool`).
        trials: one row per network. Columns as in `study.results.schema.TRIALS` without
            `test_correct`; the reader names
            `noise_rate_requested` and `noise_rate_realised`; and `noise_rate`, the requested rate
            or, where there is none, the realised one; NaN for labels as they are. Null accuracies
            of diverged networks are filled with 1 / classes.
        config: the study file as run; empty where the folder has none.
        notes: sentences about rows that were left out or filled in.
        prefixes: what `trials` has in front of the network ids of each folder.
        plans: `plan.json` of each folder; None where there is none.
        repeats: {(cell, arm, on the common seeds): confirm networks that are in more than one
            folder and were left out once}.
        repeats_by_stage: {stage: networks that are in more than one folder}.
    """

    uris: tuple[str, ...]
    trials: pd.DataFrame
    config: dict[str, Any]
    notes: tuple[str, ...] = field(default=())
    prefixes: tuple[str, ...] = field(default=("",))
    plans: tuple[PlanSummary | None, ...] = field(default=(None,))
    repeats: Mapping[tuple[str, str, bool], int] = field(default_factory=dict)
    repeats_by_stage: Mapping[str, int] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """The folders it was read from, for messages."""
        return ", ".join(self.uris)

    @property
    def name(self) -> str:
        """The name in the study's rows; several are joined by ` + `."""
        names = [str(name) for name in self.trials["study"].dropna().unique()]
        return " + ".join(names) or self.uri.rstrip("/").rpartition("/")[2]

    @property
    def margin(self) -> float:
        """Non-inferiority margin δ as a fraction, `analysis: {margin: …}` of the study file.

        Raises:
            LoadError: a margin outside (0, 1).
        """
        settings = self.config.get("analysis")
        value = settings.get("margin", DEFAULT_MARGIN) if isinstance(settings, dict) else None
        value = DEFAULT_MARGIN if value is None else value
        if not isinstance(value, int | float) or not 0 < value < 1:
            raise LoadError(f"{self.uri}: analysis.margin = {value!r}: allowed is 0 < δ < 1")
        return float(value)

    def repeats_of(self, stage: str) -> int:
        """Number of networks of a stage that are in more than one folder."""
        return self.repeats_by_stage.get(stage, 0)

    def test_correct(self, rows: pd.DataFrame) -> dict[Any, bytes]:
        """What networks of the confirm stage get right.

        The column is large, so it is read here and not with the others.

        Args:
            rows: rows of `trials`.

        Returns:
            {label of the row in `trials.index`: packed bits, one per test example}; rows without
            them are absent.

        Raises:
            LoadError: a damaged file.
        """
        correct: dict[Any, bytes] = {}
        label_of = dict(zip(rows["network_id"], rows.index, strict=True))
        for uri, prefix in zip(self.uris, self.prefixes, strict=True):
            columns = ["network_id", "test_correct"]
            table = _read(uri, "trials", [Stage.CONFIRM], columns)
            table = table.filter(pc.is_valid(table.column("test_correct")))
            ids, bits = table.column("network_id"), table.column("test_correct")
            for network_id, value in zip(ids.to_pylist(), bits.to_pylist(), strict=True):
                label = label_of.get(f"{prefix}{network_id}")
                if label is not None:
                    correct[label] = value
        return correct

    def stage(self, name: str) -> pd.DataFrame:
        """The rows of one stage, perhaps none.

        Args:
            name: `search`, `sweep` or `confirm`.
        """
        return self.trials[self.trials["stage"] == name]

    def epochs(
        self,
        columns: Sequence[str],
        stages: Iterable[str] = STAGES,
        networks: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Rows of the table `epochs`.

        Args:
            columns: of `study.results.schema.EPOCHS`, besides network_id; only these are read.
            stages: which stages.
            networks: network_ids to keep; all by default.

        Returns:
            `columns` and `trial`, the label of the network's row in `trials.index`.

        Raises:
            LoadError: a damaged file.
        """
        tables = []
        for uri, prefix in zip(self.uris, self.prefixes, strict=True):
            table = _read(uri, "epochs", stages, ["network_id", *columns])
            if prefix:
                ids = pc.binary_join_element_wise(prefix, table.column(0), "")
                table = table.set_column(0, "network_id", ids)
            tables.append(table)
        epochs = pa.concat_tables(tables)
        network_id = self.trials["network_id"]
        if networks is not None:
            network_id = network_id[network_id.isin(list(networks))]
        position = pc.index_in(
            epochs.column("network_id"), value_set=pa.array(network_id, type=pa.string())
        )
        is_known = pc.is_valid(position)
        frame: pd.DataFrame = epochs.drop_columns(["network_id"]).filter(is_known).to_pandas()
        rows = pc.drop_null(position).to_numpy()
        frame.insert(0, "trial", network_id.index.to_numpy()[rows])
        return frame


def load(uri: str) -> Study:
    """Read and check a study folder.

    Args:
        uri: a local folder or a pyarrow filesystem URI that holds `trials/<stage>/part-*.parquet`.

    Raises:
        LoadError: no finished network, another schema version, a damaged file, an empty column that
            names cells, an accuracy outside [0, 1], an unknown stage or status.
    """
    columns = [name for name in TRIALS.names if name != "test_correct"]
    trials: pd.DataFrame = _read(uri, "trials", columns=columns).to_pandas()
    _check(uri, trials)
    for column, reader_name in READER_NAMES.items():
        trials[reader_name] = trials[column]
    trials["noise_kind"] = trials["noise_kind"].fillna("none")
    # Human labels and user-defined matrices have only a realised rate, not a requested one.
    realised = trials.groupby("cell_id")["noise_rate_realised"].transform("mean").round(3)
    trials["noise_rate"] = trials["noise_rate_requested"].fillna(realised)
    # Of labels as they are, nothing is known; they are not clean for that.
    is_unknown = trials["noise_rate"].isna() & (trials["noise_kind"] == AS_IS)
    trials["noise_rate"] = trials["noise_rate"].fillna(0.0).mask(is_unknown)
    notes: list[str] = []

    repeated = trials.duplicated("network_id")
    if repeated.any():
        notes.append(f"{repeated.sum()} rows repeat a network_id; the first of each was kept.")
        trials = trials[~repeated]
    _fill_diverged(trials)
    pruned = (trials["status"] == Status.PRUNED) & (trials["stage"] != Stage.SEARCH)
    if pruned.any():
        notes.append(f"{pruned.sum()} pruned networks outside the search were left out.")
        trials = trials[~pruned]
    leaked = trials["test_acc"].notna() & (trials["stage"] != Stage.CONFIRM)
    if leaked.any():
        notes.append(
            f"{leaked.sum()} networks outside the confirm stage carry a test accuracy; "
            "it was not used, but the test set was read too early."
        )
    config, plan = _config(uri), _plan(uri)
    superseded = superseded_choices(trials, config)
    if superseded.any():
        notes.append(
            f"{superseded.sum()} confirm networks are at points that their searches chose before "
            "the study grew; they were left out."
        )
        trials = trials[~superseded]
    if plan is not None and plan.kept_points:
        notes.append(
            "The study has grown since these arms were confirmed: "
            f"{'; '.join(map(str, plan.kept_points))}. The value accounts for this through "
            "the surface."
        )
    trials = trials.reset_index(drop=True)
    return Study((uri,), trials, config, tuple(notes), plans=(plan,))


@dataclass(frozen=True)
class StudyCell:
    """A cell of a study, by its factors.

    Attributes:
        cell_id: as in `trials`.
        classes: number of classes.
        dataset: name of the data set.
        noise_kind: kind of label noise.
        noise_rate: share of wrong labels, in [0, 1]; None where it is unknown.
        model: name of the model.
        loss: name of the loss; `joint` where the cell searches several.
    """

    cell_id: str
    classes: int
    dataset: str
    noise_kind: str
    noise_rate: float | None
    model: str
    loss: str


def cells(trials: pd.DataFrame) -> list[StudyCell]:
    """The cells that ε is judged in, in a stable order.

    A cell is judged where it has an analytic arm or a sweep over at least two ε. A cell of plain
    cross-entropy is a reference only.

    Args:
        trials: as `Study.trials`.
    """
    names = trials["arm"].dropna().astype(str).unique()
    is_analytic = trials["arm"].isin([name for name in names if Arm.of_row(name).is_analytic])
    sweep = trials[trials["stage"] == Stage.SWEEP].groupby("cell_id")["epsilon"].nunique()
    judged = set(trials.loc[is_analytic, "cell_id"]) | set(sweep[sweep > 1].index)
    rows = trials[trials["cell_id"].isin(judged) & (trials["arm"] != CE)]
    is_joint = rows.groupby("cell_id")["loss"].nunique() > 1  # `loss: joint`
    rows = rows.drop_duplicates("cell_id")
    rows = rows.assign(loss=rows["loss"].where(~rows["cell_id"].map(is_joint), "joint"))
    order = ["classes", "dataset", "model", "loss", "noise_kind", "noise_rate", "cell_id"]
    return [
        StudyCell(
            cell_id=str(row["cell_id"]),
            classes=int(row["classes"]),
            dataset=str(row["dataset"]),
            noise_kind=str(row["noise_kind"]),
            noise_rate=None if pd.isna(row["noise_rate"]) else float(row["noise_rate"]),
            model=str(row["model"]),
            loss=str(row["loss"]),
        )
        for row in rows.sort_values(order).to_dict("records")
    ]


def reference_rows(cross_entropy: pd.DataFrame, cell: StudyCell) -> pd.DataFrame:
    """Plain cross-entropy beside a cell: rows of the cell itself, else of the sibling cell.

    Args:
        cross_entropy: rows of arm `ce`.
        cell: the cell.
    """
    inside = cross_entropy[cross_entropy["cell_id"] == cell.cell_id]
    if len(inside) or cross_entropy.empty:
        return inside
    is_sibling = cross_entropy["loss"] == CE
    for factor in ("dataset", "model", "noise_kind", "noise_rate"):
        value = getattr(cell, factor)
        column = cross_entropy[factor]
        is_sibling &= column.isna() if value is None else column == value
    return cross_entropy[is_sibling]


def response_metric(rows: pd.DataFrame) -> str:
    """The column that measures response: clean validation accuracy where every row has it.

    Where a study selects on noisy validation labels, clean accuracy had no influence on the
    selection. Noisy accuracy is used where clean labels do not exist.

    Args:
        rows: rows of `trials`.

    Returns:
        `val_acc_clean` or `val_acc_noisy`.
    """
    return "val_acc_clean" if rows["val_acc_clean"].notna().all() else "val_acc_noisy"


def _check(uri: str, trials: pd.DataFrame) -> None:
    if trials.empty:
        StudyFolder(uri).check_storage()
        raise LoadError(
            f"{uri}: no finished network found; a study folder holds trials/<stage>/part-*.parquet"
        )
    for column in _REQUIRED:
        if trials[column].isna().any():
            raise LoadError(f"{uri}: trials: column {column!r} has empty values")
    _check_words(uri, trials, "stage", STAGES)
    _check_words(uri, trials, "status", STATUSES)
    for column in _ACCURACIES:
        bad = trials[column].notna() & ~trials[column].between(0, 1)
        if bad.any():
            raise LoadError(
                f"{uri}: trials: {column} = {trials.loc[bad, column].iloc[0]:g}: "
                "accuracies are fractions in [0, 1]"
            )


def _fill_diverged(trials: pd.DataFrame) -> None:
    """Give diverged networks the accuracy of guessing; without them their arm would look better."""
    diverged = trials["status"] == Status.DIVERGED
    floor = 1.0 / trials["classes"]
    for column in _ACCURACIES:
        # Only the confirm stage reads the test set.
        rows = diverged & (trials["stage"] == Stage.CONFIRM) if column == "test_acc" else diverged
        trials.loc[rows, column] = trials.loc[rows, column].fillna(floor[rows])


def _read(
    uri: str, table: TableName, stages: Iterable[str] = STAGES, columns: list[str] | None = None
) -> pa.Table:
    try:
        return StudyFolder(uri).read(table, list(stages), columns)
    except (ResultsError, pa.ArrowException, OSError) as error:
        raise LoadError(" ".join(str(error).split())) from error


def _plan(uri: str) -> PlanSummary | None:
    try:
        return read_plan_summary(StudyFolder(uri))
    except ResultsError as error:
        raise LoadError(" ".join(str(error).split())) from error


def _config(uri: str) -> dict[str, Any]:
    text = StudyFolder(uri).read_bytes(STUDY_FILE)
    if text is None:
        return {}
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise LoadError(f"{uri}/study.yaml: {' '.join(str(error).split())}") from error
    return config if isinstance(config, dict) else {}


def _check_words(uri: str, trials: pd.DataFrame, column: str, allowed: Sequence[str]) -> None:
    unknown = sorted(set(trials[column].dropna().astype(str)) - set(allowed))
    if unknown:
        raise LoadError(
            f"{uri}: trials: {column} = {unknown[0]!r}: allowed is {' | '.join(allowed)}"
        )
