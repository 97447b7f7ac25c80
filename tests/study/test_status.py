"""`status` reads a folder alone and says the same as a running study."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from tests_support import JOINT_STUDY, logit_bias

from study.config.loader import parse_study
from study.execution.checkpoints import CheckpointStore
from study.planning.cohort_specs import identity_columns
from study.planning.open_study import plan_summary
from study.planning.plan import make_plan
from study.planning.scheduler import Scheduler
from study.results.folder import ResultsError, StudyFolder
from study.results.plan_summary import PLAN_FILE, read_plan_summary, write_plan_summary
from study.results.schema import EPOCHS, SCHEMA_VERSION, TRIALS, Stage
from study.results.status import study_status

PRESET = {"name": "gce", "preset": "eps-softmax-clothing1m"}
STUDY = {**JOINT_STUDY, "grid": {**JOINT_STUDY["grid"], "losses": [PRESET, {"name": "mae"}]}}
PLAN = make_plan(parse_study(yaml.safe_dump(STUDY).encode(), "preset"))
JOINT_CELL = "digits/symmetric-0.4/mlp-8x1/joint"


@pytest.fixture
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, Scheduler]:
    """A folder with the rows of a whole search, and the scheduler that produced them."""
    folder = StudyFolder(str(tmp_path_factory.mktemp("preset")))
    scheduler = Scheduler(PLAN, stages=[Stage.SEARCH])
    while cohort := scheduler.next_cohort():
        rows: dict[str, dict[str, Any]] = {}
        for network in cohort.networks:
            accuracy = random.Random(network.network_id).random() / 2
            rows[network.network_id] = {
                **dict.fromkeys(TRIALS.names),
                **identity_columns(PLAN.config, network),
                "schema_version": SCHEMA_VERSION,
                "cohort_id": cohort.cohort_id,
                "status": "complete",
                "epochs": 1,
                "val_acc_noisy": accuracy + 0.5 * (network.loss.name == "gce"),
                "wall_s": 1.0,
                "networks_in_cohort": len(cohort.networks),
                "finished_utc": datetime.now(UTC),
            }
        epochs = [{**dict.fromkeys(EPOCHS.names), "network_id": i, "epoch": 1} for i in rows]
        folder.write_part(cohort.stage, cohort.cohort_id, list(rows.values()), epochs)
        scheduler.tell(cohort.cohort_id, rows)
    return folder, scheduler


def test_status_labels_the_best_point_as_the_running_study_does(
    searched: tuple[StudyFolder, Scheduler],
) -> None:
    """Also a loss with a preset, whose label does not follow from its parameters."""
    folder, scheduler = searched
    write_plan_summary(folder, plan_summary(PLAN))
    assert read_plan_summary(folder) == plan_summary(PLAN)
    cells = study_status(folder.uri).cells
    assert cells == scheduler.search_state()
    assert "gce-eps-softmax-clothing1m, ε " in cells[JOINT_CELL].best_text


def test_a_plan_file_without_labels_is_still_read(
    searched: tuple[StudyFolder, Scheduler],
) -> None:
    folder, _ = searched
    content = plan_summary(PLAN).to_json()
    for cell in content["cells"]:
        del cell["losses"]
    folder.write_bytes(PLAN_FILE, json.dumps(content).encode())
    assert "gce-q=0.6, ε " in study_status(folder.uri).cells[JOINT_CELL].best_text


def test_saved_cohorts_are_counted(searched: tuple[StudyFolder, Scheduler]) -> None:
    """A cohort that was killed while it was saved has one file of the two."""
    folder, _ = searched
    write_plan_summary(folder, plan_summary(PLAN))
    assert "saved" not in logit_bias("status", folder.uri).stdout
    folder.write_bytes(".driver", b'{"token": "current"}')
    store = CheckpointStore(folder, "current", None)
    for cohort in ("one", "two"):
        store.save(cohort, ["a"], b"state")
    folder.write_bytes("checkpoints/three.pt", b"state")
    assert "2 unfinished cohorts saved, to be continued" in logit_bias("status", folder.uri).stdout
    assert json.loads(logit_bias("status", folder.uri, "--json").stdout)["saved_cohorts"] == 2


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"study": "x"}'])
def test_a_damaged_plan_file_is_one_line(content: bytes, tmp_path: Any) -> None:
    folder = StudyFolder(str(tmp_path))
    folder.write_bytes(PLAN_FILE, content)
    with pytest.raises(ResultsError, match=r"plan\.json is damaged; run the study again$"):
        study_status(folder.uri)
