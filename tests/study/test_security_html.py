"""Names in the data are text in the report, whatever they contain (docs/security.md)."""

import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from planted import BEST_ARMS, Planted, write_study
from tests_support import logit_bias

from study.results.folder import StudyFolder
from study.results.schema import TRIALS

ATTACKS = [
    "<script>attack()</script>",
    '" onload="attack()" x="',
    "' onload='attack()' x='",
    "--></style></title></svg><script>attack()</script>",
    "]]><svg onload=attack()>",
    r"$\attack{1}$ [/attack] {{ attack }}",
]
TEXT_COLUMNS = ("study", "dataset", "model", "noise_kind", "device", "host", "versions")
TEXT_COLUMNS += ("git_commit", "config_sha256")


class Elements(HTMLParser):
    """Counts what a page could do: scripts, event handlers, links elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "base", "form", "foreignobject"):
            self.found.append(tag)
        for name, value in attributes:
            if name.startswith("on") or (name in ("href", "src") and value[:1] not in ("#", "d")):
                self.found.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def hostile_study(folder: Path, attack: str) -> Path:
    """Rows, noise and study file in which every free text is an attack."""
    cells = [
        Planted(dataset=attack, model=attack, loss=attack, analytic={"activation": 3.0}),
        Planted(dataset=attack, model=attack, loss=attack, noise_rate=0.2, noise_kind=attack),
    ]
    write_study(folder, cells, arms=BEST_ARMS, search=12, sweep_points=5, confirm_seeds=3)
    for path in folder.glob("trials/*/*.parquet"):
        table = pq.read_table(path).to_pandas()
        for column in TEXT_COLUMNS:
            table[column] = attack
        pq.write_table(pa.Table.from_pandas(table, schema=TRIALS, preserve_index=False), path)
    names = [attack, f"2{attack}"]
    shares = [(0, 0, 0.6), (0, 1, 0.4), (1, 1, 1.0)]
    rows = [
        {
            **{"dataset": attack, "noise": attack, "noise_kind": attack, "noise_rate_asked": 0.4},
            **{"true_class": i, "noisy_class": j, "share": share},
            **{"true_name": names[i], "noisy_name": names[j]},
        }
        for i, j, share in shares
    ]
    StudyFolder(str(folder)).write_transitions(rows)
    recipe = {"epochs": attack, "batch_size": attack}
    config = {"name": attack, "recipe": recipe, "search": {"select_on": attack}}
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_names_are_text(tmp_path: Path) -> None:
    attack = "".join(ATTACKS)
    folder = hostile_study(tmp_path / "planted", attack)
    done = logit_bias("report", str(folder))
    assert done.returncode == 0, done.stderr
    page = (folder / "analysis/report.html").read_text()
    elements = Elements(page)
    assert elements.found == []
    said = "".join(elements.texts).replace("/\u200b", "/")
    assert attack in said  # in the title, the tables and the captions
    figures = list((folder / "analysis/figures").glob("*.svg"))
    assert len(figures) > 5
    for figure in figures:
        root = ElementTree.fromstring(figure.read_text())  # well-formed: nothing has broken out
        names = {element.tag.rpartition("}")[2].lower() for element in root.iter()}
        assert not names & {"script", "foreignobject"}
        assert not [key for e in root.iter() for key in e.attrib if key.lower().startswith("on")]


def test_names_with_markup_do_not_stop_a_command(tmp_path: Path) -> None:
    """Tables in a terminal take `[/…]` as it is, figures `$…$`."""
    folder = hostile_study(tmp_path / "planted", ATTACKS[5])
    shown = logit_bias("compare", str(folder))
    assert shown.returncode == 0, shown.stderr
    assert "[/attack]" in shown.stdout


def test_the_check_notices_an_attack() -> None:
    for attack in ATTACKS[:5]:
        broken = f"<style>p</style><svg><g aria-label=\"{attack}\" id='{attack}'>{attack}</g></svg>"
        assert Elements(broken).found != []


def test_tables_keep_names_as_they_are(tmp_path: Path) -> None:
    """CSV quotes what it must; verdict.json is JSON."""
    attack = 'a,"b"\n<script>\\end{tabular}'
    folder = hostile_study(tmp_path / "planted", attack)
    assert logit_bias("analyse", str(folder)).returncode == 0
    cells = pd.read_csv(folder / "analysis/tables/cells.csv")
    assert set(cells["dataset"]) == {attack}
    verdict = json.loads((folder / "analysis/verdict.json").read_text())
    assert verdict["cells"][0]["dataset"] == attack
