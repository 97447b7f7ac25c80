"""Links in every Markdown file lead to a file that exists, and to a heading in it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "study", "trainables", "analysis", "benchmarks", "tests")
FILES = sorted([*ROOT.glob("*.md"), *(f for name in FOLDERS for f in ROOT.glob(f"{name}/**/*.md"))])
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)]*)\)")
EXTERNAL = ("https://", "http://", "mailto:")


def without_code(markdown: str) -> str:
    """The text outside fenced blocks and inline code."""
    prose = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "`code`", prose)


def anchors(markdown: str) -> set[str]:
    """Anchors of the headings, as GitHub and the documentation site make them."""
    prose = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#{1,6} +(.+?) *$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def faults(file: Path) -> list[str]:
    """The targets in a Markdown file that do not exist."""
    wrong = []
    for target in LINK.findall(without_code(file.read_text())):
        if target.startswith(EXTERNAL):
            continue
        path, _, anchor = target.partition("#")
        destination = (file.parent / path).resolve() if path else file
        if not destination.exists() or (anchor and anchor not in anchors(destination.read_text())):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(file):
    assert not faults(file)


def test_wrong_links_are_found(tmp_path):
    (tmp_path / "other.md").write_text("# A title: here\n```\n# no title\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#a-title-here) [c](#own) `[code](x)` [web](https://x.y)\n"
        "## Own\n[d](gone.md) [e](other.md#no-title) E[z](ε) ![f](gone.png)\n"
    )
    assert faults(page) == ["gone.md", "other.md#no-title", "ε", "gone.png"]
