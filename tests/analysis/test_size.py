"""100,000 networks and 10 million epoch rows: analyse and report in 4 GB, and in linear time.

The times are printed (`pytest -s`) and not bounded: they differ between processors, and with what
else runs there. docs/statistics.md has them.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import BEST_ARMS, Planted, write_study

from study.results.folder import StudyFolder
from study.results.schema import EPOCHS as EPOCH_SCHEMA
from study.results.schema import TRIALS

CELLS, EPOCHS = 500, 100

CHILD = """
import json, os, resource, sys
from joblib.externals.loky import get_reusable_executor
from analysis.report.html import analyse_and_report
analyse_and_report(sys.argv[1])
get_reusable_executor().shutdown(wait=True)
driver, workers = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
seconds = sum(used.ru_utime + used.ru_stime for used in (driver, workers))
memory = driver.ru_maxrss + min(os.cpu_count(), 32) * workers.ru_maxrss  # at most
print(json.dumps({"seconds": seconds, "gigabytes": memory / 2**20}))
"""


def write_large(folder, cells: int = CELLS, epochs: int = EPOCHS, **options) -> int:
    """Copies of a planted study under new names: with the default options 200 networks each."""
    options = {"search": 120, "sweep_seeds": 5, "confirm_seeds": 6} | options
    seed = write_study(folder / "one", [Planted()], epochs=1, sweep_points=9, **options)
    networks = 0
    rng = np.random.default_rng(0)
    grown = 1 - np.exp(-np.arange(1, epochs + 1) / 20)
    for stage in ("search", "sweep", "confirm"):
        trials = StudyFolder(str(seed)).read("trials", [stage]).to_pandas()
        rows = StudyFolder(str(seed)).read("epochs", [stage]).to_pandas()
        reached = rows["val_acc_clean"].to_numpy()
        many = rows.loc[rows.index.repeat(epochs)].reset_index(drop=True)
        many["epoch"] = np.tile(np.arange(1, epochs + 1), len(rows))
        many["val_acc_clean"] = np.outer(reached, grown).ravel()
        for cell in range(cells):
            rate = round(0.001 * cell, 3)
            new = trials.copy()
            new["noise_rate_asked"] = rate
            new["cell_id"] = [c.replace("0.4", str(rate)) for c in trials["cell_id"]]
            new["network_id"] = new["network_id"] + f"-{cell}"
            new["val_acc_clean"] += rng.normal(0, 0.002, len(new))
            new["cohort_id"] = f"{stage}-{cell}"
            epochs_of_cell = many.assign(network_id=many["network_id"] + f"-{cell}")
            for table, frame in (("epochs", epochs_of_cell), ("trials", new)):
                path = folder / "large" / table / stage / f"part-{stage}-{cell}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                schema = {"epochs": EPOCH_SCHEMA, "trials": TRIALS}[table]
                arrow = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
                pq.write_table(arrow, path, compression="zstd")
            networks += len(new)
    return networks


WITH_BEST = {"arms": BEST_ARMS, "search": 32, "confirm_seeds": 12, "test_examples": 2000}


def used(folder: Path) -> dict[str, float]:
    """Processor seconds and memory of analysing and reporting a study."""
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        capture_output=True, text=True, check=True, timeout=900,
    )  # fmt: skip
    result: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return result


@pytest.mark.slow
@pytest.mark.parametrize(("cells", "options"), [(CELLS, {}), (270, WITH_BEST)], ids=["", "best"])
def test_a_large_study_takes_four_gigabytes_and_linear_time(tmp_path, cells, options):
    some = write_large(tmp_path / "quarter", cells // 4, **options)
    networks = write_large(tmp_path / "whole", cells, **options)
    assert networks >= 100_000
    quarter, whole = (used(tmp_path / part / "large") for part in ("quarter", "whole"))
    print(f"{some} networks: {quarter}; {networks} networks: {whole}")
    assert whole["gigabytes"] < 4
    assert whole["seconds"] < 5 * quarter["seconds"]  # quadratic would be 16 times
