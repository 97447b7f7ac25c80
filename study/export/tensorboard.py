"""Learning curves for TensorBoard, in addition to parquet: one run per network."""

from __future__ import annotations

from collections.abc import Callable

from tensorboardX import SummaryWriter

from study.planning.scheduler import Cohort
from study.results.folder import StudyFolder
from study.results.schema import EPOCHS

_SCALARS = [name for name in EPOCHS.names if name not in ("network_id", "epoch")]


def scalar_log(logdir: str) -> Callable[[StudyFolder, Cohort], None]:
    """A function that writes a cohort's learning curves to `logdir`/<cell>/<stage>-<arm>/<network>.

    Args:
        logdir: a folder, or another target that tensorboardX supports.

    Returns:
        For `study.execution.run.RunOptions.after_cohort`.
    """

    def write(folder: StudyFolder, cohort: Cohort) -> None:
        epochs = folder.read_part("epochs", cohort.stage, cohort.cohort_id).to_pylist()
        for network in cohort.networks:
            arm = f"-{network.arm}" if network.arm else ""
            run_folder = f"{logdir}/{network.cell.cell_id}/{cohort.stage}{arm}/{network.network_id}"
            with SummaryWriter(run_folder) as writer:
                for epoch in epochs:
                    if epoch["network_id"] == network.network_id:
                        for name in _SCALARS:
                            if epoch[name] is not None:
                                writer.add_scalar(name, epoch[name], epoch["epoch"])

    return write
