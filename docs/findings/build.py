"""Computes the page of findings from the rows in this folder: `make findings`.

    python docs/findings/build.py [--check]

The page is the template `page.md.j2`: its words are written by hand, every number and table comes
from the rows. `--check` writes nothing and fails where the page in the repository says something
else; numbers may differ in their last digit, because processors round differently.
"""

from __future__ import annotations

import sys

import jinja2
from differences import differences
from pictures import best_epsilon_figure
from questions import HERE
from tables import Page
from wording import best, line_text, number, points, share

from analysis.report import theme

LONG_TAILS = {
    f"tail{n}": f"digit-pairs-imbalance=long-tail-imbalance_factor={n}" for n in (10, 100)
}
PAGE = HERE / "README.md"


def render(findings: Page) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True
    )  # Markdown, not HTML
    environment.filters |= {
        "points": points, "share": share, "number": number, "line": line_text, "best_of": best,
    }  # fmt: skip
    return environment.get_template("page.md.j2").render(f=findings, **LONG_TAILS)


def main() -> None:
    """Write the page, or check it."""
    findings = Page()
    page = render(findings)
    if "--check" in sys.argv[1:]:
        found = differences(page, PAGE.read_text())
        if found:
            raise SystemExit("\n".join(["the page says something else than the rows:", *found]))
        return
    PAGE.write_text(page)
    figure = theme.paper_svg(theme.svg(best_epsilon_figure(findings)))
    (HERE / "best-epsilon.svg").write_text(figure)


if __name__ == "__main__":
    main()
