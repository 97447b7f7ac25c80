"""The page of findings says what the rows beside it say."""

import runpy
import subprocess
import sys
from pathlib import Path

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
