"""The Ray Tune searcher of a study: suggests a scheduler's cohorts and passes on their results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from study.execution.progress import ProgressDisplay
from study.execution.signals import StopListener
from study.planning.cohort_specs import cohort_spec, identity_columns
from study.planning.scheduler import Cohort, Scheduler


class CohortSearcher(Searcher):
    """Ray Tune's interface to a scheduler. One suggestion is one cohort.

    A cohort that returns no results is requeued and becomes due again, up to `attempts` times in
    all. Then `failure` is set, and the experiment ends.

    Args:
        scheduler: decides which networks train next.
        display: shows the progress.
        stop_listener: starts to listen at the first suggestion, because Tune replaces the signal
            handlers when it starts.
        attempts: how often a cohort may fail.
        after_cohort: called with each cohort whose rows are on storage.

    Attributes:
        failure: why the study cannot continue, or None.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        display: ProgressDisplay,
        stop_listener: StopListener,
        attempts: int = 3,
        after_cohort: Callable[[Cohort], None] = lambda cohort: None,
    ) -> None:
        super().__init__(metric="networks", mode="max")
        self._scheduler, self._display = scheduler, display
        self._stop_listener = stop_listener
        self._cohort_of: dict[str, Cohort] = {}  # by Tune trial id
        self._attempts_left: dict[str, int] = {}
        self._attempts = attempts
        self._after_cohort = after_cohort
        self._is_listening = False
        self.failure: str | None = None

    def suggest(self, trial_id: str) -> Any:
        """The next cohort as a Tune config; None if nothing is due now; FINISHED at the end."""
        if not self._is_listening:
            self._is_listening = True
            self._stop_listener.listen()
        if self.failure or self._stop_listener.stop_requested or self._scheduler.is_done:
            return Searcher.FINISHED
        cohort = self._scheduler.next_cohort()
        if cohort is None:
            return None
        self._cohort_of[trial_id] = cohort
        self._display.show(self._scheduler)
        config = self._scheduler.plan.config
        return {
            "cohort_id": cohort.cohort_id,
            "stage": cohort.stage,
            "spec": cohort_spec(config, cohort.networks).to_dict(),
            "identity": [identity_columns(config, n) for n in cohort.networks],
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: a cohort reports only once."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass the results of the cohort's networks to the scheduler."""
        cohort = self._cohort_of.pop(trial_id, None)
        if cohort is None:
            return
        result = result or {}
        members = result.get("members")
        if error or not members:
            self._scheduler.requeue(cohort.cohort_id)
            if not result.get("stopped"):
                left = self._attempts_left.get(cohort.cohort_id, self._attempts) - 1
                self._attempts_left[cohort.cohort_id] = left
                if left <= 0:
                    self.failure = f"cohort {cohort.cohort_id} failed on every attempt"
        else:
            self._scheduler.tell(cohort.cohort_id, {m["network_id"]: m for m in members})
            self._display.memory_mb = result.get("memory_mb")
            self._after_cohort(cohort)
        self._display.show(self._scheduler)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the study's state: Tune pickles its settings when it starts."""
        return {"failure": self.failure}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: parquet is the only state, and every run starts from it."""

    def restore(self, checkpoint_path: str) -> None:
        """Not supported: a study resumes from parquet, not from Ray's snapshots."""
        raise NotImplementedError("a study resumes from its parquet files")
