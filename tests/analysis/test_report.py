"""The report: complete, self-contained, and silent in a real browser."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from planted import Cell, default_cells, write_study

from analysis.data.load import LoadError
from analysis.report.html import report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return Path(report(str(write_study(tmp_path_factory.mktemp("study"), default_cells()))))


def browse(page: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Open a page; return its console messages and the addresses it asked for."""
    log = folder / "net.json"
    run = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}",
         f"--log-net-log={log}", "--virtual-time-budget=2000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    console = [line for line in run.stderr.splitlines() if ":CONSOLE" in line]
    events = json.loads(log.read_text())["events"]
    urls = [str(e["params"]["url"]) for e in events if "url" in e.get("params", {})]
    asked = [u for u in urls if u.startswith("http") and "google" not in u]
    return console, asked


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_report_is_silent_and_offline_in_a_browser(page, tmp_path):
    console, asked = browse(page, tmp_path)
    assert console == []
    assert asked == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_browser_check_can_fail(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<img src='http://127.0.0.1:9/picture.png'><script>console.error('no');</script>"
    )
    console, asked = browse(bad, tmp_path)
    assert console
    assert asked


def test_report_shows_what_was_asked(page):
    text = page.read_text()
    assert "percentage points" in text
    assert text.count("<svg role=") == 2 * 4 + 2 + 3
    assert text.count('aria-label="') >= 9
    for word in ("Methods", "Provenance", "f" * 40, "0" * 64):
        assert word in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert len(list((page.parent / "figures").glob("*.svg"))) == 13


def test_ids_are_unique(page):
    import re

    ids = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert len(ids) == len(set(ids))


def test_names_from_the_study_are_escaped(tmp_path):
    cell = Cell(dataset="<script>alert(1)</script>")
    assert "<script" not in Path(report(str(write_study(tmp_path, [cell])))).read_text()


@pytest.mark.parametrize("stages", [("search", "sweep"), ("sweep", "confirm"), ("confirm",)])
def test_report_of_an_unfinished_study(tmp_path, stages):
    text = Path(report(str(write_study(tmp_path, [Cell()], stages=stages)))).read_text()
    assert "Every cell" in text


def test_a_study_without_cells_to_compare_is_refused(tmp_path):
    write_study(tmp_path, [Cell()], stages=("search",))
    with pytest.raises(LoadError, match="no cell to report on"):
        report(str(tmp_path))
