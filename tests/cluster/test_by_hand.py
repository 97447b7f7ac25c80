"""The launcher's steps by hand, with the commands of docs/cluster.md, on simulated machines.

Minutes long, and skipped without root.
"""

import re

import pytest
import yaml
from by_hand import LONG, ByHand, commands
from onprem import undisturbed
from rows_of_a_study import contents

pytestmark = [pytest.mark.slow, pytest.mark.integration]


def test_a_study_runs_there_stops_at_ctrl_c_and_goes_on(made_by_hand: ByHand) -> None:
    cluster, storage = made_by_hand, "/shared/run"
    text = yaml.safe_dump({**LONG, "storage": storage})
    cluster.worker.run(f"cat > study.yaml <<'END'\n{text}\nEND")
    run = commands("on any of them").replace("STUDY", "study.yaml")
    process = cluster.start(cluster.worker, run)
    cluster.wait_for_rows(process, storage)
    cluster.interrupt(cluster.worker)
    shown, _ = process.communicate(timeout=300)
    assert process.returncode == 130, shown
    assert re.search(r"[12] unfinished cohorts saved; run the same command to go on", shown), shown
    before = {row["network_id"]: row["finished_utc"] for row in cluster.rows(storage)}

    shown = cluster.shell(cluster.worker, run)
    rows = cluster.rows(storage)
    assert {row["host"] for row in rows} == {"head", "worker"}
    after = {row["network_id"]: row["finished_utc"] for row in rows}
    assert 0 < len(before) < len(after)
    assert before.items() <= after.items()
    assert contents(cluster.folder(storage)) == undisturbed(cluster, LONG)

    folder = cluster.folder(storage)
    report = commands("on any machine that sees").replace("FOLDER", f"{storage}/tiny")
    assert f"done; next: {report}\n" in shown
    assert f"Report: {storage}/tiny/analysis/report.html" in cluster.head.run(report).stdout
    assert (folder / "analysis/report.html").is_file()
