"""The page of findings says what the rows beside it say."""

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "docs/findings/build.py"


def test_the_page_is_what_the_rows_give() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("page", "differs"),
    [
        ("cost 1.31 (−0.40 to 2.00)", False),
        ("cost 1.30 (0.40 to 2.00)", True),
        ("cost 1.90 (−0.40 to 2.00)", True),
        ("gain 1.30 (−0.40 to 2.00)", True),
    ],
)
def test_a_page_may_differ_by_rounding_alone(page: str, differs: bool) -> None:
    differences = runpy.run_path(str(SCRIPT.with_name("differences.py")))["differences"]
    assert bool(differences("cost 1.30 (−0.40 to 2.00)", page)) == differs


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two studies with a range of learning rates from 0.1 to 1 that share one arm, and one without
    a range."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from questions import Confirmed, Findings

    def arm(name: str, network: str, lr: float, noisy: tuple[float, ...]) -> Any:
        rows = pd.DataFrame(
            {"network_id": [f"{network}{i}" for i in range(3)], "lr": lr, "epsilon": 0.0}
        )
        rows = rows.assign(seed=range(3), val_acc_noisy=noisy, test_acc=noisy, classes=10)
        return Confirmed(f"cell/{network}", name, rows, {})

    shared = arm("best", "a", 0.99, (0.5, 0.6, 0.7))
    found = Findings.__new__(Findings)
    found._arms = {
        "one": [shared, arm("analytic:activation", "b", 0.3, (0.5, 0.7, 0.6))],
        "two": [shared, arm("best", "c", 0.11, (0.1, 0.2, 0.3)), arm("ce", "d", 0.1, (0, 0, 0))],
        "given": [arm("best", "e", 0.195, (0.5, 0.5, 0.5))],
    }
    limits = {"one": (0.1, 1.0), "two": (0.1, 1.0), "given": (0.19, 0.2)}
    found.studies = {
        name: SimpleNamespace(
            study=SimpleNamespace(config={"search": {"lr": {"low": low, "high": high}}})
        )
        for name, (low, high) in limits.items()
    }
    return found


def test_a_learning_rate_counts_once_and_only_where_a_range_was_searched(findings: Any) -> None:
    assert findings.edges() == (2, 3)  # a and c of a, b and c


def test_losses_that_tie_are_all_the_best(findings: Any) -> None:
    assert [c.cell_id for c in findings.best_without_epsilon("one")] == ["cell/a", "cell/b"]
    assert [c.cell_id for c in findings.best_without_epsilon("two")] == ["cell/a"]


def test_groups_of_networks_begin_with_the_best(findings: Any) -> None:
    findings._arms["one"] = findings._arms["one"][:1]
    assert findings.groups("one", "best", [55]) == ["2 at 60 to 70 %", "1 at 50 %"]
    assert findings.median("one", "best") == "60.0"
