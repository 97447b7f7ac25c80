"""Shared by the benchmarks: summaries with spread, and small dated result files."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"


def ratio_summary(values: np.ndarray) -> dict[str, float]:
    """Median, quartiles and n of repeated measurements."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "low": float(low), "high": float(high), "n": len(values)}


def save(name: str, configuration: dict[str, Any], table: dict[str, Any]) -> None:
    """Write benchmarks/results/<name>-<date>.json with hardware, versions and configuration."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"{name}-{now:%Y-%m-%d}.json"
    content = {
        "measured_utc": now.isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "configuration": configuration,
        "results": table,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {path}")


def _commit() -> str | None:
    command = ["git", "-C", str(RESULTS.parent), "rev-parse", "HEAD"]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    return output.strip() or None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), "unknown")
