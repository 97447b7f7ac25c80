"""The one Ray Tune searcher of a study: hands out cohorts of a scheduler, takes back results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from study.execution.progress import Progress
from study.execution.signals import Stopper
from study.planning.plan import cohort_spec, identity_columns
from study.planning.scheduler import Cohort, Scheduler


class CohortSearcher(Searcher):
    """A scheduler behind Ray Tune's interface. One suggestion is one cohort.

    A cohort that comes back without results is given up and becomes due again, `attempts` times
    in all; then `failure` is set and the experiment runs out.

    Parameters
    ----------
    stopper: is made to listen as soon as Tune runs, which takes the signals for itself at first.
    after_cohort: called with every cohort whose rows are on storage.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        progress: Progress,
        stopper: Stopper,
        attempts: int = 3,
        after_cohort: Callable[[Cohort], None] = lambda cohort: None,
    ) -> None:
        super().__init__(metric="networks", mode="max")
        self._scheduler, self._progress, self._stopper = scheduler, progress, stopper
        self._cohort_of: dict[str, Cohort] = {}  # by Tune trial id
        self._attempts_left: dict[str, int] = {}
        self._attempts = attempts
        self._after_cohort = after_cohort
        self._is_listening = False
        self.failure: str | None = None

    def suggest(self, trial_id: str) -> Any:
        """The next cohort as a Tune config, None to be asked later, FINISHED at the end."""
        if not self._is_listening:
            self._is_listening = True
            self._stopper.listen()
        if self.failure or self._stopper.wanted or self._scheduler.is_done:
            return Searcher.FINISHED
        cohort = self._scheduler.next_cohort()
        if cohort is None:
            return None
        self._cohort_of[trial_id] = cohort
        self._progress.show(self._scheduler)
        config = self._scheduler.plan.config
        return {
            "cohort_id": cohort.cohort_id,
            "stage": cohort.stage,
            "spec": cohort_spec(config, cohort.networks).to_dict(),
            "identity": [identity_columns(config, n) for n in cohort.networks],
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: a cohort reports once."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the scheduler what the cohort's networks reached."""
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
            self._progress.memory_mb = result.get("memory_mb")
            self._after_cohort(cohort)
        self._progress.show(self._scheduler)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its settings when it starts; the study's state stays in this process."""
        return {"failure": self.failure}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: parquet is the only state, and a run starts from it."""

    def restore(self, checkpoint_path: str) -> None:
        """Never used: a study goes on from parquet, not from Ray's snapshots."""
        raise NotImplementedError("a study goes on from its parquet files")
