"""Run a study: a Ray Tune experiment that starts from the rows on storage and adds rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from study.config.sections import StudyConfig
from study.execution import lease
from study.execution.checkpoints import CheckpointStore
from study.execution.noise_record import check_datasets, draw_noise_record, write_noise_record
from study.execution.precision import check_machine
from study.execution.progress import ProgressDisplay
from study.execution.ray_resources import RayResources, start_ray
from study.execution.result_writer import ResultWriter
from study.execution.signals import StopListener
from study.planning.cohort_specs import data_spec, model_spec
from study.planning.open_study import (
    compare_with_folder,
    folder_of,
    has_begun,
    kept_epsilons,
    plan_in_folder,
    plan_summary,
    replay_rows,
)
from study.planning.plan import Plan
from study.planning.scheduler import Cohort, IntervalWidth, Scheduler
from study.results import provenance
from study.results.compaction import compact, discard_uncommitted
from study.results.evidence import ChoosePoints
from study.results.folder import STUDY_FILE, StudyFolder
from study.results.plan_summary import KeptPoint, write_plan_summary
from study.results.schema import STAGES, Stage
from study.results.study_files import replace_study_file, sha256
from trainables.engine.capacity import convolves
from trainables.errors import BadInputError, InterruptedByUserError, UserError

PlannedNetworks = tuple[Mapping[Stage, int], int, tuple[KeptPoint, ...]]
"""What of plan.json may change in a run: arguments of `plan_summary`."""

_LAUNCHES = 3  # Ray experiments in a row that may end early without a single new network
_COMPACT_FROM = 64  # part files of a stage; fewer files are read fast enough
_COMPACT_EVERY = 500  # cohorts, within a run


class StudyFailedError(UserError):
    """A study that cannot continue; the message is one line for the user."""


class StudyInterruptedError(InterruptedByUserError):
    """The user stopped the study; finished networks are on storage."""


@dataclass(frozen=True)
class RunOptions:
    """Options of a run, none of which changes what is trained.

    Attributes:
        stages: stages to run.
        address: a running Ray cluster; None starts Ray on this machine for this study only.
        dashboard: whether to start Ray's dashboard too.
        trust: whether the folder's study files may import what the user's own one does not name.
        after_cohort: called in this process with the folder and each cohort whose rows are on
            storage.
        trainable: what a worker runs in place of `trainables.tune.train_cohort`, with the same
            arguments. Only for tests and benchmarks of everything except training.
    """

    stages: tuple[Stage, ...] = STAGES
    address: str | None = None
    dashboard: bool = False
    trust: bool = False
    after_cohort: Callable[[StudyFolder, Cohort], None] | None = None
    trainable: Callable[..., None] | None = None


def run_study(
    config: StudyConfig,
    content: bytes,
    options: RunOptions = RunOptions(),
    interval_width: IntervalWidth | None = None,
    display: ProgressDisplay | None = None,
    choose_points: ChoosePoints | None = None,
) -> StudyFolder:
    """Train every network of the study that has no row yet.

    Args:
        config: the study.
        content: the study file; the folder keeps it, and every row contains its hash.
        options: how to run it.
        interval_width: needed if the sweep has `until_interval`; see `study.planning.sweep`.
        choose_points: needed if the study has the arm `best`; see `study.results.evidence`.
        display: where to show the progress.

    Returns:
        The study's folder.

    Raises:
        StudyFileError: the folder holds rows that this study file would change.
        BadInputError: a data set cannot be loaded, or this machine lacks the recipe's precision.
        study.execution.lease.StudyBusyError: another driver is running this study.
        study.execution.ray_resources.InsufficientResourcesError: Ray lacks what a cohort needs.
        StudyFailedError: networks failed repeatedly.
        StudyInterruptedError: SIGINT or SIGTERM; running the study again resumes it.
    """
    folder = folder_of(config)
    plan = plan_in_folder(config, folder, options.trust)
    growth = compare_with_folder(folder, config, plan, options.trust)
    check_machine(config, options.address)
    # Before anything is written: the noise that is new needs its data set.
    recorded = None if growth is not None and not growth.has_begun else folder.read_transitions()
    noise_record = draw_noise_record(config, recorded)
    folder.create()
    held = lease.Lease(folder)
    try:
        _check_begun_by_nobody_else(folder, plan)
        discard_uncommitted(folder)
        _compact(folder)
        if not folder.exists() or (growth is not None and not growth.has_begun):
            folder.write_bytes(STUDY_FILE, content)
        elif growth is not None:
            replace_study_file(folder, content)
        if noise_record is not None:
            write_noise_record(folder, noise_record)
        stored_content = folder.read_bytes(STUDY_FILE) or content
        writer = ResultWriter(folder, held.token, sha256(stored_content), provenance.collect())
        with display or ProgressDisplay() as shown:
            for line in () if growth is None else growth.lines():
                shown.print_line(line)
            study_run = StudyRun(plan, writer, options, interval_width, shown, choose_points)
            study_run.run_to_completion()
        _compact(folder)
    finally:
        held.release()
    return folder


def _check_begun_by_nobody_else(folder: StudyFolder, plan: Plan) -> None:
    """Check that no other run began the study while this one measured ε.

    Raises:
        study.execution.lease.StudyBusyError: one did.
    """
    if not has_begun(folder):
        return
    kept = kept_epsilons(folder, plan.config)
    for cell, epsilons in plan.analytic.items():
        known = kept.get(cell.cell_id, {})
        if any(epsilons.get(rule, epsilon) != epsilon for rule, epsilon in known.items()):
            raise lease.StudyBusyError(
                f"{folder.uri}: another run began this study a moment ago; run the same command "
                "again"
            )


class StudyRun:
    """One driver's work on a study, from the rows on storage to the last network.

    Args:
        plan: the study's plan.
        writer: writes the rows, with this driver's token.
        options: how to run the study.
        interval_width: as in `run_study`.
        display: shows the progress.
        choose_points: as in `run_study`.
    """

    def __init__(
        self,
        plan: Plan,
        writer: ResultWriter,
        options: RunOptions,
        interval_width: IntervalWidth | None,
        display: ProgressDisplay,
        choose_points: ChoosePoints | None,
    ) -> None:
        self._plan, self._writer, self._options = plan, writer, options
        self._folder, self._display = writer.folder, display
        self._interval_width, self._choose_points = interval_width, choose_points
        self._stop_listener = StopListener(self._folder, writer.token)
        minutes = plan.config.resources.checkpoint_minutes
        every_s = None if minutes is None else 60 * minutes
        self._checkpoints = CheckpointStore(self._folder, writer.token, every_s)
        self._planned: PlannedNetworks | None = None  # as in plan.json
        self._said: set[KeptPoint] = set()

    def run_to_completion(self) -> None:
        """Launch experiments until every network is trained.

        Some events (an out-of-memory kill, the loss of a node) can end a whole Tune experiment.
        Every launch starts from the rows on storage, so the next launch continues.

        Raises:
            BadInputError: a data set cannot be loaded, or confirm lacks a stage that it needs.
            InsufficientResourcesError: Ray lacks what a cohort needs.
            StudyFailedError: networks failed repeatedly.
            StudyInterruptedError: SIGINT or SIGTERM.
        """
        before = self._scheduler(RayResources(1, {}, 1))  # only asked what is left
        if missing := before.missing_stages:
            verb, flags = "is" if len(missing) == 1 else "are", [f"--stage {s}" for s in missing]
            raise BadInputError(
                f"--stage confirm: the {' and the '.join(missing)} {verb} not finished; add "
                f"{' '.join(flags)}"
            )
        if before.is_done:
            self._write_plan(before)
            done = before.networks_done
            self._display.print_line(f"{done} networks are trained; nothing is left to do")
            return
        check_datasets(self._plan.config)
        config, options = self._plan.config, self._options
        resources = start_ray(
            config, options.address, options.dashboard, small_networks=not _convolves(config)
        )
        import ray  # after `start_ray`, which sets what Ray reads when it is imported

        self._stop_listener.listen()
        self._display.print_line(resources.summary)
        if resources.dashboard:
            self._display.print_line(
                f"Ray's dashboard: http://{resources.dashboard}, token: `ray get-auth-token`"
            )
        idle_launches, done = 0, before.networks_done
        try:
            while True:
                self._folder.wait_for_listing([f"trials/{stage}" for stage in STAGES])
                current = self._scheduler(resources)
                if current.is_done:
                    self._write_plan(current)
                    self._checkpoints.discard_all_but(())
                    return
                idle_launches = 0 if current.networks_done > done else idle_launches + 1
                if idle_launches > _LAUNCHES:
                    raise StudyFailedError(
                        f"{self._folder.uri}: {_LAUNCHES} launches in a row trained nothing; "
                        "run again to resume"
                    )
                done = current.networks_done
                self._launch(current, resources)
        finally:
            self._stop_listener.close()
            ray.shutdown()

    def _scheduler(self, resources: RayResources) -> Scheduler:
        """The study's state according to the files on storage."""
        resumable = self._checkpoints.cohorts()
        if resumable:
            column = self._folder.read("trials", columns=["network_id"]).column("network_id")
            trained = set(column.to_pylist())
            resumable = {c: ids for c, ids in resumable.items() if trained.isdisjoint(ids)}
        self._checkpoints.discard_all_but(resumable)
        scheduler = Scheduler(
            self._plan,
            replay_rows(self._folder),
            workers=resources.workers,
            largest_cohort=resources.networks_per_cohort,
            shared_gpus=resources.shared_gpus,
            stages=self._options.stages,
            interval_width=self._interval_width,
            choose_points=self._choose_points,
            begun=resumable.values(),
        )
        self._write_plan(scheduler)
        return scheduler

    def _write_plan(self, scheduler: Scheduler) -> None:
        """Write plan.json for `logit-bias status`, whenever the plan has changed."""
        planned = scheduler.networks_planned, scheduler.superseded, scheduler.kept_points
        if planned != self._planned:
            self._planned = planned
            write_plan_summary(self._folder, plan_summary(self._plan, *planned))
        for kept in scheduler.kept_points:
            if kept not in self._said:
                self._said.add(kept)
                self._display.print_line(f"the study has grown, its rows are kept: {kept}")

    def _launch(self, scheduler: Scheduler, resources: RayResources) -> None:
        """One Ray Tune experiment over every network that is due."""
        from ray import tune
        from ray.tune.execution import class_cache

        from study.execution.tune_scheduler import CohortFIFO
        from study.execution.tune_searcher import CohortSearcher
        from trainables.tune import train_cohort

        # Tune would send the driver's AWS keys with each worker's environment, which Ray logs.
        keys = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
        class_cache.ENV_VARS_TO_PROPAGATE.difference_update(keys)

        def after_cohort(cohort: Cohort) -> None:
            self._write_plan(scheduler)
            if self._options.after_cohort:
                self._options.after_cohort(self._folder, cohort)
            if scheduler.cohorts_done % _COMPACT_EVERY == 0:
                _compact(self._folder)

        searcher = CohortSearcher(
            scheduler, self._display, self._stop_listener, after_cohort=after_cohort
        )
        trainable = tune.with_resources(
            tune.with_parameters(
                self._options.trainable or train_cohort,
                write_rows=self._writer,
                checkpointer=self._checkpoints,
            ),
            resources.per_cohort,
        )
        with tempfile.TemporaryDirectory(prefix="logit-bias-tune-") as scratch:
            tuner = tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=CohortFIFO(resources.workers),
                    num_samples=-1,
                    max_concurrent_trials=resources.workers,
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
            errors: list[Exception] = []
            try:
                errors = tuner.fit().errors
            except Exception as error:  # RuntimeError, TuneError and others, for lost workers
                if not self._stop_listener.stop_requested:
                    self._display.print_line(
                        f"Ray Tune ended early ({_last_line(error)}); launching again"
                    )
                    return
        if searcher.failure:
            reason = f": {_last_line(errors[-1])}" if errors else ""
            raise StudyFailedError(f"{searcher.failure}{reason}; finished networks are kept")
        if not scheduler.is_done:
            saved = len(self._checkpoints.cohorts())
            raise StudyInterruptedError(
                f"stopped with {scheduler.networks_done} of {scheduler.networks_total} networks "
                f"trained and {saved} unfinished cohorts saved; run the same command to go on"
            )


def _convolves(config: StudyConfig) -> bool:
    """Whether a model of the study has convolutions."""
    return any(
        convolves(data_spec(dataset), model_spec(model))
        for dataset in config.grid.dataset
        for model in config.grid.model
    )


def _compact(folder: StudyFolder) -> None:
    for stage in STAGES:
        compact(folder, stage, at_least=_COMPACT_FROM)


def _last_line(error: BaseException, longest: int = 200) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:longest] if lines else type(error).__name__
