"""The Ray Tune scheduler of a study: cohorts in order, with workers that stay between them."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler


class CohortFIFO(FIFOScheduler):
    """First in, first out, and idle workers are kept.

    Tune keeps a single idle worker. Where the cohorts of a search's round have ended and the next
    round is not yet known, the other workers would end, and start again a moment later: import
    torch, open the GPU. With 64 workers of one-second cohorts this was most of the work
    (`benchmarks/load.py`). Here every worker stays until the experiment ends.

    Tune has no public way to say so; `tests/study/test_tune_scheduler.py` notices if a version of
    Ray changes what this uses.

    Args:
        workers: cohorts at a time.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._workers = workers
        self._added = 0
        self._place: dict[str, int] = {}  # of the trials that have not ended, by trial id
        self._kept: set[Any] = set()  # resources whose workers are kept

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Remember the trial's place in the order, and keep workers of its kind."""
        self._place[trial.trial_id] = self._added
        self._added += 1
        resources = trial.placement_group_factory
        if resources not in self._kept:
            self._kept.add(resources)
            tune_controller._tune_controller._actor_cache.increase_max(resources, self._workers)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """End idle workers: a lost machine takes those with it that were idle on it."""
        tune_controller._cleanup_cached_actors(force_all=True)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Forget the trial."""
        self._place.pop(trial.trial_id, None)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The first trial that waits, looked for among those that have not ended."""
        waiting = [
            trial
            for trial in tune_controller.get_live_trials()
            if trial.status in (Trial.PENDING, Trial.PAUSED)
        ]
        return min(waiting, key=lambda trial: self._place.get(trial.trial_id, 0), default=None)
