"""The Ray Tune trainable: one Tune trial trains one cohort and writes its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import ray
from ray import tune

from trainables.cohort import CohortSpec, MemberResult, train
from trainables.runtime import configure_process, device_name

Write = Callable[[Mapping[str, Any], list[MemberResult], str, datetime], None]
"""(Tune config, results, device name, start) → rows on storage; raises where it could not."""


def train_cohort(config: Mapping[str, Any], *, write: Write) -> None:
    """Train the cohort `config["spec"]`, write its rows, then report its members' metrics.

    Rows are written before anything is reported, so what the driver has heard of is on storage.
    """
    started = datetime.now(UTC)
    configure_process()
    device = "cuda" if ray.get_gpu_ids() else "cpu"
    results = train(CohortSpec.from_dict(config["spec"]), device=device)
    write(config, results, device_name(device), started)
    # A list, because Tune flattens dictionaries on their way to the searcher.
    members = [{"network_id": r.network_id, **r.metrics} for r in results]
    tune.report({"networks": len(members), "members": members})
