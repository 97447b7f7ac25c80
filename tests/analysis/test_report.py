"""The report: complete, self-contained, and without errors in a real browser."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import BEST_ARMS, Planted, default_cells, flat, two_sided, write_study

from analysis.data.load import LoadError
from analysis.formatting import points
from analysis.inference.records import Cost, Interval, Verdict
from analysis.report import forest_plot, html
from analysis.report.figure_writer import FigureWriter
from analysis.report.forest_plot import ForestAxis, ForestRow
from analysis.report.html import report
from analysis.report.panels import (
    Panel,
    ReportSection,
    all_panels,
    arms,
    base,
    dynamics,
    forest,
    learning,
    procedure,
    register,
    sweep_check,
    uncertainty,
)
from analysis.report.panels.transitions import draw as draw_transition
from analysis.report.series import (
    VERDICT_STYLES,
    SeriesStyle,
    arm_markers,
    arm_styles,
    cell_titles,
    name_styles,
)
from analysis.report.theme import BLUE
from analysis.verdict import StudyAnalysis, compute
from study.results.arms import Arm
from study.results.folder import StudyFolder

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("study"), default_cells(), arms=BEST_ARMS)
    return Path(report(str(folder)))


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
    by_cell = ("response", "learning", "dynamics")
    both = ("forest", "procedure", "recovered", "uncertainty")
    names = [f"{name}-{i}" for name in by_cell for i in range(1, 5)]
    names += [*both, *(f"{name}-narrow" for name in both)]
    names += ["margin", "classes", "noise-1", "noise-2"]
    assert {path.stem for path in (page.parent / "figures").glob("*.svg")} == set(names)
    assert text.count("<svg role=") == len(names)
    assert text.count('aria-label="') == len(names)
    for word in ("Methods", "Provenance", "f" * 40, "0" * 64):
        assert word in text
    assert "http" not in text.replace("http://www.w3.org", "")


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


def section_of(text: str, name: str) -> str:
    return re.search(rf'<(section|details)[^>]* ?id="{name}">(.*?)</\1>', text, re.S)[2]


def labels(svg: str) -> list[str]:
    """All texts of a figure."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def variants(section: str) -> dict[str, str]:
    return dict(re.findall(r'<div class="(wide|narrow)">(.*?)</div>', section, re.S))


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> StudyAnalysis:
    """A cell in which analytic ε is 3 points worse, and one with flat response."""
    cells = [
        Planted(response=two_sided(best=4.0, left=0.03), search_sd=0.5),
        Planted(loss="gce", response=flat(), ce=None),
    ]
    folder = tmp_path_factory.mktemp("measured")
    write_study(folder, cells, arms=BEST_ARMS, test_examples=2000, sd=0.001, seed_sd=0.002)
    return compute(str(folder))


def test_every_seed_and_every_replicate_is_a_dot(measured, monkeypatch):
    drawn = {}
    for panel in (forest, procedure):
        rows = []

        def record(writer, shown, *rest, rows=rows):
            rows.extend(shown)
            return "<svg/>"

        monkeypatch.setattr(panel, "save", record)
        panel.build(measured, FigureWriter(None))
        drawn[panel] = {row.title: row for row in rows}
    for cell in measured.verdict.cells:
        title = cell_titles(measured.verdict.cells)[cell.cell_id]
        value, gain = cell.primary_value, cell.primary_procedure
        row = drawn[forest][title]
        assert len(row.dots) == value.n == 5
        assert np.mean(row.dots) == pytest.approx(100 * value.measured.mean)
        assert row.mean == pytest.approx(100 * value.mean)
        row = drawn[procedure][title]
        assert list(row.dots) == [100 * r.mean for r in gain.replicates]
        assert len(row.dots) == gain.n == 4


def test_evidence_and_challengers_are_marked(tmp_path):
    """Search and sweep rank analytic ε first, so that it was compared with another one."""
    cells = [Planted(response=two_sided(best=3.03), tuned=4.0)]
    analysis = compute(str(write_study(tmp_path, cells, arms=BEST_ARMS, sd=0.001)))
    (cell,) = analysis.verdict.cells
    assert cell.primary_value.leads
    assert cell.evidence
    text = html.render(analysis)
    for svg in variants(section_of(text, "forest")).values():
        (remark,) = [label for label in labels(svg) if "challenger" in label]
        assert "analytic 3.03, challenger 4" in remark
        assert "; evidence" in remark


def test_wide_and_narrow_figures_say_the_same(measured):
    text = html.render(measured)
    for name in ("forest", "procedure", "recovered"):
        both = variants(section_of(text, name))
        assert set(both) == {"wide", "narrow"}
        row = next(label for label in labels(both["wide"]) if re.search(r"\(.* to .*\)", label))
        assert any(row in label for label in labels(both["narrow"]))


def test_no_value_without_the_arm_best(tmp_path):
    """One search: the seeds are shown, and no interval."""
    text = html.render(compute(str(write_study(tmp_path, [Planted()]))))
    assert 'id="forest"' not in text
    section = section_of(text, "procedure")
    assert "There was one search" in section
    assert "no interval" in labels(variants(section)["wide"])


def test_dots_beyond_the_axis_are_triangles():
    row = ForestRow("a cell", 0.0, (-1.0, 1.0), "0", SeriesStyle(BLUE, "o"), dots=(0.5, 50.0))
    figure = forest_plot.draw([row], ForestAxis("points"), wide=True)
    (axes,) = figure.axes
    (triangle,) = [line for line in axes.lines if line.get_marker() == ">"]
    assert triangle.get_xdata()[0] == axes.get_xlim()[1] < 50
    assert row.title in [text.get_text() for text in axes.texts]


def test_arms_have_their_epsilon_and_learning_rate(measured):
    section = arms.build(measured, FigureWriter(None))
    heads = [column.heading for column in section.table.columns]
    rows = [dict(zip(heads, row, strict=True)) for row in section.table.rows]
    cell = next(cell for cell in measured.verdict.cells if cell.loss == "mae")
    title = cell_titles(measured.verdict.cells)[cell.cell_id]
    rows = [row for row in rows if row["cell"] == title]
    assert {row["learning rate"] for row in rows} == {"0.1", "0.1, 0.1, 0.1, 0.1"}
    by_arm = {row["arm"]: row for row in rows}
    assert by_arm["ε = 0"]["ε"] == "0.00"
    assert by_arm["analytic ε (activation)"]["ε"] == "3.03"
    tuned = by_arm["tuned ε, by search"]["ε"].split(", ")
    assert tuned == [f"{c.epsilon:.2f}" for c in cell.choices["tuned"]]


def test_budget_and_precision_of_each_cell(measured):
    section = uncertainty.build(measured, FigureWriter(None))
    cell, row = measured.verdict.cells[0], section.table.rows[0]
    assert row[1] == "4 × analytic 12, tuned 12"
    assert row[3] == "5"
    value = cell.primary_value
    assert row[4] == points((value.high - value.low) / 2)
    assert row[5] == f"{(value.high - value.low) / 2 / cell.margin:.1f}"
    shares = value.shares.to_json().values()
    assert sum(share for share in shares if share is not None) == pytest.approx(1)
    assert {key.text for key in section.legend} >= {"searches", "seeds", "test examples"}


def test_chance_at_no_cost_is_half_where_the_interval_of_no_cost_ends_at_the_margin():
    interval = Interval(0.0, -0.005, 0.005, 5)
    cost = Cost(0.0, -0.005, 0.005, 5, interval, 0.0, 0.003, None, False, False, None, None)
    assert uncertainty.chance_at_no_cost(cost, 0.005) == pytest.approx(0.5)
    assert uncertainty.chance_at_no_cost(cost, 0.05) > 0.99


def test_a_sentence_says_where_sweep_and_confirm_stage_differ(measured):
    section = sweep_check.build(measured, FigureWriter(None))
    assert len(section.paragraphs) == 1  # planted without a contradiction
    cell = next(c for c in measured.verdict.cells if c.verdict == Verdict.INFERIOR)
    turned = replace(cell.response, probability_within_margin={"activation": 1.0})
    cells = [replace(cell, response=turned)]
    analysis = replace(measured, verdict=replace(measured.verdict, cells=cells))
    sentence, summary = sweep_check.build(analysis, FigureWriter(None)).paragraphs
    assert "100 % that analytic ε costs at most the margin" in sentence
    assert "the confirm stage says inferior" in sentence
    assert summary.startswith("The two contradict each other in 1 cell of 1")


@pytest.mark.parametrize(
    ("probability", "verdict", "expected"),
    [
        (0.97, Verdict.INFERIOR, True), (0.94, Verdict.INFERIOR, False),
        (0.03, Verdict.NON_INFERIOR, True), (0.03, Verdict.CANNOT_TELL, True),
        (0.03, Verdict.UNDECIDED, False), (0.03, Verdict.INFERIOR, False),
    ],
)  # fmt: skip
def test_when_sweep_and_confirm_contradict_each_other(probability, verdict, expected):
    assert sweep_check.contradicts(sweep_check.sweep_says(probability, 0.9), verdict) == expected


def test_dynamics_show_every_arm_against_epsilon(measured):
    section = dynamics.build(measured, FigureWriter(None))
    texts = {key.text for key in section.legend}
    assert texts == {"sweep", *(Arm.of_row(arm).label for arm in measured_arms(measured))}
    table = measured.tables["dynamics"]
    confirm = table[table["stage"] == "confirm"]
    # Planted: the share that vanishes is 1 − accuracy, which grows.
    assert (confirm["vanishing_first"] > confirm["vanishing_last"]).all()
    rows = dynamics.build_table(measured, FigureWriter(None)).table.rows
    assert {row[1] for row in rows} == texts - {"sweep"}
    tuned = next(row for row in rows if row[1] == "tuned ε")
    assert tuned[-1] == "12"  # 4 replicates on 3 seeds
    best = next(row for row in rows if row[1] == "best ε")
    assert best[-1] == "5"


def measured_arms(analysis: StudyAnalysis) -> set[str]:
    confirm = analysis.study.stage("confirm")
    return set(confirm["arm"])


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


def test_the_legend_can_show_every_marker():
    template = Path(html.__file__).parent / "templates/report.html.j2"
    drawn = set(re.findall(r'key\.marker == "([^"]+)"', template.read_text()))
    styles = [
        *VERDICT_STYLES.values(),
        *arm_markers(ARMS).values(),
        *name_styles("abcdef").values(),
    ]
    assert {style.marker for style in styles} <= drawn


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
    text = html.render(compute(str(write_study(tmp_path, [Planted()], arms=BEST_ARMS))))
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
