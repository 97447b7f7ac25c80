"""The columns of a study's parquet files.

Other programs rely on them: within a schema version, columns may be added, but no column is renamed
or removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import pyarrow as pa

from trainables.status import Status as Status

SCHEMA_VERSION = 1


class Stage(StrEnum):
    """The column `stage` of `trials`."""

    SEARCH = "search"
    """Adaptive; chooses ε and the learning rate of every arm."""
    SWEEP = "sweep"
    """A fixed grid of ε and learning rates on common seeds; shows the curve."""
    CONFIRM = "confirm"
    """Fresh paired seeds; measures, and is the only stage that reads the test set."""


STAGES = tuple(Stage)
STATUSES = tuple(Status)

READER_NAMES: Mapping[str, str] = {
    "noise_rate_asked": "noise_rate_requested",
    "noise_rate_real": "noise_rate_realised",
}
"""{column of schema version 1: the name that programs use for it}.

Parquet keeps the column names until schema version 2. A reader accepts both names and uses the
second one: the rate that the study file requests, and the share of training labels that are wrong.
"""

AS_IS = "as-is"
"""The noise kind of labels that may be wrong already. Rows with it have no columns that need the
correct labels of training and validation examples."""

NEED_CORRECT_LABELS = frozenset(
    {"train_acc_clean", "val_acc_clean", "noise_rate_real", "noise_rate_per_class"}
)
"""Columns of `trials` and `epochs` that are null where the noise kind is `AS_IS`."""

_STRING, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_UTC = pa.timestamp("us", tz="UTC")


def _schema(**fields: pa.DataType) -> pa.Schema:
    return pa.schema(list(fields.items()))


TRIALS = _schema(
    schema_version=_INT,
    study=_STRING,
    stage=_STRING,  # a `Stage`
    cell_id=_STRING,
    cohort_id=_STRING,
    network_id=_STRING,
    point=_INT,  # number of the search point within its cell; null outside search
    arm=_STRING,  # name of a `study.results.arms.Arm`; null in sweep
    rule=_STRING,  # a name in `trainables.theory.rule_names`; null unless the arm is analytic
    dataset=_STRING,
    classes=_INT,
    train_size=_INT,
    skipped_files=_INT,  # damaged files that `bad_files: skip` left out; null in older rows
    model=_STRING,
    loss=_STRING,
    loss_params=_STRING,  # JSON
    epsilon=_FLOAT,  # logit bias; 0 without one
    rescale=_FLOAT,  # factor on Δ in the loss of arm rescale; null in other arms
    lr=_FLOAT,
    weight_decay=_FLOAT,
    noise_kind=_STRING,
    noise_rate_asked=_FLOAT,  # as the study file requests; null for kinds with a fixed rate
    noise_rate_real=_FLOAT,  # share of training labels that are wrong; null for kind as-is
    noise_rate_per_class=pa.list_(_FLOAT),  # the same for each true class
    seed=_INT,  # noise_seed, init_seed and order_seed are derived from it
    # number of the search that proposed the network or chose its settings, from 0; null in sweep,
    # for the pooled arms of confirm, and in studies without the arm `best`
    replicate=_INT,
    noise_seed=_INT,
    init_seed=_INT,
    order_seed=_INT,
    epochs=_INT,  # number of epochs trained
    status=_STRING,  # a `Status`
    train_acc_noisy=_FLOAT,  # accuracies are fractions in [0, 1], after the last epoch
    train_acc_clean=_FLOAT,  # on correct labels; null where they are unknown (kind as-is)
    val_acc_noisy=_FLOAT,
    val_acc_clean=_FLOAT,  # likewise
    test_acc=_FLOAT,  # null outside confirm
    # whether the last epoch's network is right on each test example: packed bits in the order of
    # numpy.packbits, the last byte filled with zeros; null outside confirm and where diverged
    test_correct=pa.binary(),
    best_val_acc_noisy=_FLOAT,  # maximum over epochs
    logit_std_init=_FLOAT,  # standard deviation over classes of the untrained network's logits
    wall_s=_FLOAT,  # training time of the cohort, in seconds
    networks_in_cohort=_INT,
    device=_STRING,
    host=_STRING,
    started_utc=_UTC,
    finished_utc=_UTC,
    config_sha256=_STRING,
    git_commit=_STRING,
    git_dirty=_BOOL,
    versions=_STRING,  # JSON
)

EPOCHS = _schema(
    network_id=_STRING,
    epoch=_INT,  # 1 … epochs
    train_loss=_FLOAT,
    train_acc_noisy=_FLOAT,
    train_acc_clean=_FLOAT,
    val_acc_noisy=_FLOAT,
    val_acc_clean=_FLOAT,
    test_acc=_FLOAT,  # null outside confirm
    lr=_FLOAT,  # at the epoch's last step
    mean_delta=_FLOAT,  # mean |∂L/∂z_y| of the labelled class
    mean_activation=_FLOAT,  # mean softmax probability of the labelled class, without bias
    vanishing_share=_FLOAT,  # share of examples with |∂L/∂z_y| < 1 % of its maximum
    grad_norm=_FLOAT,  # at the epoch's last step
    input_stall_share=_FLOAT,  # share of the epoch spent waiting for images; 0 unless streamed
    wall_s=_FLOAT,
)

TRANSITIONS = _schema(
    dataset=_STRING,  # as in `trials`
    noise=_STRING,  # the second part of cell_id
    noise_kind=_STRING,
    noise_rate_asked=_FLOAT,
    true_class=_INT,
    noisy_class=_INT,
    true_name=_STRING,
    noisy_name=_STRING,
    share=_FLOAT,  # of the training examples of true_class that are labelled noisy_class; above 0
)
