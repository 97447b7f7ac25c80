"""Run a study: one Ray Tune experiment that starts from, and adds to, the study folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from study.config.loader import sha256
from study.config.sections import StudyConfig
from study.execution import lease
from study.execution.checkpoints import CheckpointStore
from study.execution.noise_record import draw_transitions, keep_transitions
from study.execution.progress import Progress
from study.execution.ray_resources import RayResources, start_ray
from study.execution.result_writer import ResultWriter
from study.execution.signals import Stopper
from study.planning.open_study import check_folder, folder_of, plan_of, plan_summary, replay_rows
from study.planning.plan import Plan
from study.planning.scheduler import Cohort, IntervalWidth, Scheduler
from study.results import provenance
from study.results.compaction import compact, discard_uncommitted
from study.results.folder import StudyFolder
from study.results.schema import STAGES
from study.results.status import PLAN_FILE
from trainables.errors import BadInputError, InterruptedByUserError, UserError

_LAUNCHES = 3  # Ray experiments in a row that may end early without a single new network
_LARGEST_COHORT = 32
_COMPACT_FROM = 64  # part files of a stage; fewer are read fast enough as they are
_COMPACT_EVERY = 500  # cohorts, within a run


class StudyFailedError(UserError):
    """A study that could not go on; the message is one line for the user."""


class StudyInterruptedError(InterruptedByUserError):
    """The user stopped the study; what was finished is on storage."""


@dataclass(frozen=True)
class Options:
    """How a study is run, as far as that does not change what is trained.

    Attributes:
        stages: stages to run.
        address: a running Ray cluster; None starts Ray on this machine for the study alone.
        dashboard: whether Ray's dashboard is started with it.
        after_cohort: called in this process with the folder and every cohort that is on storage.
    """

    stages: tuple[str, ...] = STAGES
    address: str | None = None
    dashboard: bool = False
    after_cohort: Callable[[StudyFolder, Cohort], None] | None = None


def run_study(
    config: StudyConfig,
    content: bytes,
    options: Options = Options(),
    interval_width: IntervalWidth | None = None,
    progress: Progress | None = None,
) -> StudyFolder:
    """Train every network that the study still lacks, and return the study's folder.

    Parameters
    ----------
    content: the study file as read; it is kept in the folder, and its hash in every row.
    interval_width: needed where the sweep has `until_interval`; see `study.planning.scheduler`.

    Raises
    ------
    StudyFileError: the folder holds a study from another study file.
    study.execution.lease.StudyBusyError: another driver is running this study.
    study.execution.ray_resources.InsufficientResourcesError: the machines lack what a cohort asks for.
    StudyFailedError: networks failed repeatedly.
    StudyInterruptedError: SIGINT or SIGTERM; running again goes on.
    """
    folder = folder_of(config)
    check_folder(folder, config, content)
    transitions = draw_transitions(config)  # and see whether every data set is there
    plan = plan_of(config)
    folder.filesystem.create_dir(folder.path, recursive=True)
    held = lease.Lease(folder)
    try:
        discard_uncommitted(folder)
        _compact(folder)
        if not folder.exists():
            folder.write_bytes("study.yaml", content)
        keep_transitions(folder, transitions)
        kept = folder.read_bytes("study.yaml") or content
        writer = ResultWriter(folder, held.token, sha256(kept), provenance.collect())
        with progress or Progress() as shown:
            _Run(plan, writer, options, interval_width, shown).to_the_end()
        _compact(folder)
    finally:
        held.release()
    return folder


class _Run:
    """One driver's work on a study, from the rows that are there to the last one."""

    def __init__(
        self,
        plan: Plan,
        writer: ResultWriter,
        options: Options,
        interval_width: IntervalWidth | None,
        progress: Progress,
    ) -> None:
        self._plan, self._writer, self._options = plan, writer, options
        self._folder, self._progress = writer.folder, progress
        self._interval_width = interval_width
        self._stopper = Stopper(self._folder, writer.token)
        minutes = plan.config.resources.checkpoint_minutes
        every_s = None if minutes is None else 60 * minutes
        self._checkpoints = CheckpointStore(self._folder, writer.token, every_s)
        self._planned: dict[str, int] = {}  # as plan.json has it

    def to_the_end(self) -> None:
        """Launch experiments until nothing is due.

        Some events (an out-of-memory kill, a lost node at a bad moment) end a whole Tune
        experiment. Each launch starts from the rows on storage, so another launch simply goes on.
        """
        import ray

        before = self._scheduler(1)
        if before.lacks_search:
            raise BadInputError("--stage confirm: the search is not finished; add --stage search")
        if before.is_done:
            done = before.networks_done
            self._progress.say(f"{done} networks are trained; nothing is left to do")
            return
        machines = start_ray(self._plan.config, self._options.address, self._options.dashboard)
        self._stopper.listen()
        if machines.dashboard:
            self._progress.say(
                f"Ray's dashboard: http://{machines.dashboard}, token: `ray get-auth-token`"
            )
        idle_launches, done = 0, before.networks_done
        try:
            while True:
                current = self._scheduler(machines.workers)
                if current.is_done:
                    self._checkpoints.discard_all_but(())
                    return
                idle_launches = 0 if current.networks_done > done else idle_launches + 1
                if idle_launches > _LAUNCHES:
                    raise StudyFailedError(
                        f"{self._folder.uri}: {_LAUNCHES} launches in a row trained nothing; "
                        "run again to go on"
                    )
                done = current.networks_done
                self._launch(current, machines)
        finally:
            ray.shutdown()

    def _scheduler(self, workers: int) -> Scheduler:
        """The study's state by what is on storage."""
        rows = replay_rows(self._folder, self._plan.config)
        trained = {row["network_id"] for row in rows}
        begun = {
            cohort_id: ids
            for cohort_id, ids in self._checkpoints.begun().items()
            if trained.isdisjoint(ids)
        }
        self._checkpoints.discard_all_but(begun)
        scheduler = Scheduler(
            self._plan,
            rows,
            workers=workers,
            largest_cohort=self._plan.config.resources.networks_per_cohort or _LARGEST_COHORT,
            stages=self._options.stages,
            interval_width=self._interval_width,
            begun=begun.values(),
        )
        self._keep_plan(scheduler)
        return scheduler

    def _keep_plan(self, scheduler: Scheduler) -> None:
        """Tell `status` what is planned, whenever that has changed."""
        if scheduler.networks_planned != self._planned:
            self._planned = scheduler.networks_planned
            summary = plan_summary(self._plan, self._planned)
            self._folder.write_bytes(PLAN_FILE, json.dumps(summary).encode())

    def _launch(self, scheduler: Scheduler, machines: RayResources) -> None:
        """One Ray Tune experiment over everything that is due."""
        from ray import tune

        from study.execution.tune_searcher import CohortSearcher
        from trainables.tune import train_cohort

        def after_cohort(cohort: Cohort) -> None:
            self._keep_plan(scheduler)
            if self._options.after_cohort:
                self._options.after_cohort(self._folder, cohort)
            if scheduler.cohorts_done % _COMPACT_EVERY == 0:
                _compact(self._folder)

        searcher = CohortSearcher(
            scheduler, self._progress, self._stopper, after_cohort=after_cohort
        )
        trainable = tune.with_resources(
            tune.with_parameters(train_cohort, write=self._writer, keep=self._checkpoints),
            machines.per_cohort,
        )
        with tempfile.TemporaryDirectory(prefix="logit-bias-tune-") as scratch:
            tuner = tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=-1,
                    max_concurrent_trials=machines.workers,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name=scheduler.plan.config.name,
                    storage_path=scratch,
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=2),
                ),
            )
            try:
                found = tuner.fit()
            except Exception as error:  # Ray raises RuntimeError, TuneError … for lost workers
                if not self._stopper.wanted:
                    self._progress.say(f"Ray Tune ended early ({_last_line(error)}); going on")
                    return
        if searcher.failure:
            reason = f": {_last_line(found.errors[-1])}" if found.errors else ""
            raise StudyFailedError(f"{searcher.failure}{reason}; finished networks are kept")
        if not scheduler.is_done:
            kept = len(self._checkpoints.begun())
            raise StudyInterruptedError(
                f"stopped with {scheduler.networks_done} of {scheduler.networks_total} networks "
                f"trained and {kept} cohorts kept in the middle; run the same command to go on"
            )


def _compact(folder: StudyFolder) -> None:
    for stage in STAGES:
        compact(folder, stage, at_least=_COMPACT_FROM)


def _last_line(error: BaseException, longest: int = 200) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:longest] if lines else type(error).__name__
