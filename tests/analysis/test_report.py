"""The report: complete, self-contained, and without errors in a real browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import Planted, default_cells, write_study

from analysis.data.load import LoadError
from analysis.report import html
from analysis.report.figure_writer import FigureWriter
from analysis.report.html import report
from analysis.report.panels import Panel, ReportSection, all_panels, base, learning, register
from analysis.report.panels.transitions import draw as draw_transition
from analysis.report.series import arm_styles, cell_titles
from analysis.verdict import compute
from study.results.arms import Arm
from study.results.folder import StudyFolder

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return Path(report(str(write_study(tmp_path_factory.mktemp("study"), default_cells()))))


def browse(page: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Open a page; return its console messages and the addresses that it requests."""
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
    requests = [u for u in urls if u.startswith("http") and "google" not in u]
    return console, requests


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_report_has_no_errors_and_no_requests_in_a_browser(page, tmp_path):
    console, requests = browse(page, tmp_path)
    assert console == []
    assert requests == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_browser_check_can_fail(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<img src='http://127.0.0.1:9/picture.png'><script>console.error('no');</script>"
    )
    console, requests = browse(bad, tmp_path)
    assert console
    assert requests


def test_report_shows_every_section_and_figure(page):
    text = page.read_text()
    assert "percentage points" in text
    assert text.count("<svg role=") == 2 * 4 + 2 + 3
    assert text.count('aria-label="') >= 9
    for word in ("Methods", "Provenance", "f" * 40, "0" * 64):
        assert word in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert len(list((page.parent / "figures").glob("*.svg"))) == 13


def test_ids_are_unique(page):
    ids = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert len(ids) == len(set(ids))


def write_noise(folder: Path, names: list[str]) -> None:
    """A transition matrix with 40 % of class 0 labelled as class 1."""
    shares = [(0, 0, 0.6), (0, 1, 0.4), (1, 1, 1.0)]
    rows = [
        {
            "dataset": "digit-pairs", "noise": "asymmetric-0.4", "noise_kind": "asymmetric",
            "noise_rate_asked": 0.4, "true_class": true, "noisy_class": noisy,
            "true_name": names[true], "noisy_name": names[noisy], "share": share,
        }
        for true, noisy, share in shares
    ]  # fmt: skip
    StudyFolder(str(folder)).write_transitions(rows)


SCRIPT = "<script>alert('x')</script>"


@pytest.mark.parametrize("field", ["dataset", "model", "loss", "noise_kind"])
def test_names_from_the_study_are_escaped(tmp_path, field):
    cell = Planted(**{field: SCRIPT})
    text = Path(report(str(write_study(tmp_path, [cell])))).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_class_names_are_escaped(tmp_path):
    folder = write_study(tmp_path, [Planted()])
    write_noise(folder, [SCRIPT, '" onload="alert(1)'])
    text = Path(report(str(folder))).read_text()
    assert "<script" not in text
    (label,) = re.findall(r'aria-label="(Transition[^"]*)"', text)
    assert "&lt;script&gt;" in label
    assert "→ &quot; onload=&quot;" in label
    caption = re.search(r"<figcaption>.*?most often (.*?)</figcaption>", text)
    assert caption[1].startswith("&lt;script&gt;")


def test_class_names_with_dollar_signs_are_not_formulas():
    names = ["$\\nosuch$", "b"]
    figure = draw_transition(np.array([[0.6, 0.4], [0.0, 1.0]]), names)
    assert "$\\nosuch$" in FigureWriter(None).save(figure, "transition-1", "alt")


ARMS = [
    "tuned", "analytic:activation", "analytic:activation-measured", "analytic:gradient",
    "analytic:shift", "zero", "half", "double", "ce",
]  # fmt: skip


def test_learning_curves_show_every_arm(tmp_path):
    rules = {"activation": 3.03, "activation-measured": 2.0, "gradient": 4.0, "shift": 5.0}
    analysis = compute(str(write_study(tmp_path, [Planted(analytic=rules)])))
    section = learning.build(analysis, FigureWriter(None))
    assert [key.text for key in section.legend] == [Arm.parse(arm).label for arm in ARMS]
    assert len({(key.colour, key.dash) for key in section.legend}) == len(ARMS)
    figure = learning.draw(analysis.tables["learning_curves"], arm_styles(ARMS))
    drawn = [(line.get_color(), line._unscaled_dash_pattern) for line in figure.axes[0].lines]
    assert len(set(drawn)) == len(drawn) == len(ARMS)
    for arm in ARMS:
        assert f"{Arm.parse(arm).label} " in section.figures[0].svg  # the text alternative


def test_styles_of_the_main_arms_do_not_depend_on_the_others():
    every, few = arm_styles(ARMS), arm_styles(["ce", "zero", "tuned", "analytic:activation"])
    assert few == {arm: every[arm] for arm in few}
    assert list(few) == ["tuned", "analytic:activation", "zero", "ce"]
    assert arm_styles(ARMS, "shift")["analytic:shift"] == every["analytic:activation"]
    assert len(set(arm_styles([*ARMS, *(f"new-{i}" for i in range(15))]).values())) == 24


def test_titles_name_the_model_only_if_there_are_several(tmp_path):
    cells = [Planted(), Planted(model="deep")]
    analysis = compute(str(write_study(tmp_path, cells, stages=("sweep",))))
    titles = cell_titles(analysis.verdict.cells)
    assert len(set(titles.values())) == 2
    assert all(cell.model in titles[cell.cell_id] for cell in analysis.verdict.cells)
    one = cell_titles(analysis.verdict.cells[:1])
    assert list(one.values()) == ["digit-pairs · mae · 40 % symmetric noise"]


def test_a_registered_panel_is_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "_PANELS", {panel.name: panel for panel in all_panels()})
    register(Panel("extra", "Extra & more", 15, lambda *_: ReportSection(notes=["<b>note</b>"])))
    text = html.render(compute(str(write_study(tmp_path, [Planted()]))))
    assert '<section id="extra">\n<h2>Extra &amp; more</h2>' in text
    assert "&lt;b&gt;note&lt;/b&gt;" in text
    assert text.index('id="response"') < text.index('id="extra"') < text.index('id="forest"')


def test_names_and_positions_of_panels_are_unique():
    first = all_panels()[0]
    with pytest.raises(ValueError, match="panel response at 11: response is at 10"):
        register(Panel(first.name, "", first.order + 1, first.build))
    with pytest.raises(ValueError, match="panel other at 10: response is at 10"):
        register(Panel("other", "", first.order, first.build))


@pytest.mark.parametrize("stages", [("search", "sweep"), ("sweep", "confirm"), ("confirm",)])
def test_report_of_an_unfinished_study(tmp_path, stages):
    text = Path(report(str(write_study(tmp_path, [Planted()], stages=stages)))).read_text()
    assert "Every cell" in text


def test_a_study_without_cells_to_compare_is_refused(tmp_path):
    write_study(tmp_path, [Planted()], stages=("search",))
    with pytest.raises(LoadError, match="no cell to report on"):
        report(str(tmp_path))


def test_learning_curves_of_one_epoch_are_points():
    row = {"arm": "tuned", "epoch": 1, "mean": 0.5, "low": 0.4, "high": 0.6}
    (ax,) = learning.draw(pd.DataFrame([row]), arm_styles({"tuned"}, None)).axes
    assert ax.lines[0].get_marker() == "o"
    assert all(tick == round(tick) for tick in ax.get_xticks())
