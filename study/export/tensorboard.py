"""Learning curves for TensorBoard, beside parquet: a run a network, written as cohorts end."""

from __future__ import annotations

from collections.abc import Callable

from tensorboardX import SummaryWriter

from study.planning.scheduler import Cohort
from study.results.folder import StudyFolder
from study.results.schema import EPOCHS

_SCALARS = [name for name in EPOCHS.names if name not in ("network_id", "epoch")]


def scalar_log(logdir: str) -> Callable[[StudyFolder, Cohort], None]:
    """What writes a cohort's learning curves to `logdir`/<cell>/<stage>-<arm>/<network>.

    `logdir` is a folder, or whatever else tensorboardX can write to.
    """

    def write(folder: StudyFolder, cohort: Cohort) -> None:
        epochs = folder.read_part("epochs", cohort.stage, cohort.cohort_id).to_pylist()
        for network in cohort.networks:
            arm = f"-{network.arm}" if network.arm else ""
            room = f"{logdir}/{network.cell.cell_id}/{cohort.stage}{arm}/{network.network_id}"
            with SummaryWriter(room) as writer:
                for epoch in epochs:
                    if epoch["network_id"] == network.network_id:
                        for name in _SCALARS:
                            if epoch[name] is not None:
                                writer.add_scalar(name, epoch[name], epoch["epoch"])

    return write
