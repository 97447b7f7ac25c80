"""The one Ray Tune searcher of a study: hands out cohorts of a campaign, takes back results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from study.campaign import Campaign
from study.plan import cohort_spec, identity_columns
from study.progress import Progress


class CohortSearcher(Searcher):
    """A campaign behind Ray Tune's interface. One suggestion is one cohort.

    A cohort that comes back without results is given up and becomes due again, `attempts` times
    in all; then `failure` is set and the experiment runs out.
    """

    def __init__(
        self,
        campaign: Campaign,
        progress: Progress,
        attempts: int = 3,
        after_cohort: Callable[[int], None] = lambda cohorts_done: None,
    ) -> None:
        super().__init__(metric="networks", mode="max")
        self._campaign, self._progress = campaign, progress
        self._cohort_of: dict[str, str] = {}  # Tune trial id → cohort id
        self._attempts_left: dict[str, int] = {}
        self._attempts = attempts
        self._after_cohort = after_cohort
        self.failure: str | None = None

    def suggest(self, trial_id: str) -> Any:
        """The next cohort as a Tune config, None to be asked later, FINISHED at the end."""
        if self.failure or self._campaign.is_done:
            return Searcher.FINISHED
        cohort = self._campaign.next_cohort()
        if cohort is None:
            return None
        self._cohort_of[trial_id] = cohort.cohort_id
        self._progress.show(self._campaign)
        config = self._campaign.plan.config
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
        """Tell the campaign what the cohort's networks reached."""
        cohort_id = self._cohort_of.pop(trial_id, None)
        if cohort_id is None:
            return
        members = (result or {}).get("members")
        if error or not members:
            self._campaign.give_up(cohort_id)
            left = self._attempts_left.get(cohort_id, self._attempts) - 1
            self._attempts_left[cohort_id] = left
            if left <= 0:
                self.failure = f"cohort {cohort_id} failed on every attempt"
        else:
            self._campaign.tell(cohort_id, {m["network_id"]: m for m in members})
        self._progress.show(self._campaign)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its settings when it starts; the study's state stays in this process."""
        return {"failure": self.failure}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: parquet is the only state, and a run starts from it."""

    def restore(self, checkpoint_path: str) -> None:
        """Never used: a study goes on from parquet, not from Ray's snapshots."""
        raise NotImplementedError("a study goes on from its parquet files")
