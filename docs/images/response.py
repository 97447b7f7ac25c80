"""The picture of the README: two curves of a finished quickstart, side by side.

python docs/images/response.py results/quickstart    (after `logit-bias report results/quickstart`)
"""

import re
import sys
from pathlib import Path

CELLS = {  # number of the figure in the report: heading
    3: "100 classes, clean labels",
    4: "100 classes, 40 % wrong labels",
}
WIDTH, HEIGHT = 548, 222
TITLE = (
    "Validation accuracy on clean labels of MAE on digit-pairs, 100 classes, against ε: a steep "
    "rise from ε = 0 to the best ε, then a slow fall; the analytic ε lies near the top."
)


def body(svg: str, prefix: str) -> str:
    """What a figure of the report draws, with ids of its own."""
    inner = re.search(r"</metadata>(.*)</svg>", svg, re.DOTALL)
    assert inner is not None
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', inner.group(1))
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", text)
    return re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', text)


def main(folder: str) -> None:
    """Write docs/images/response.svg."""
    parts = []
    for i, (number, heading) in enumerate(CELLS.items()):
        svg = (Path(folder) / f"analysis/figures/response-{number}.svg").read_text()
        parts.append(
            f'<text x="{44 + 274 * i}" y="16" font-weight="bold">{heading}</text>'
            f'<g transform="translate({2 + 274 * i} 20)">{body(svg, f"r{i}-")}</g>'
        )
    content = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{1.5 * WIDTH:.0f}" height="{1.5 * HEIGHT:.0f}" '
        f'role="img">\n<title>{TITLE}</title>\n<rect width="{WIDTH}" height="{HEIGHT}" '
        'fill="#ffffff"/>\n<g font-family="\'DejaVu Sans\', Verdana, sans-serif" '
        f'font-size="9.5" fill="#111827">{"".join(parts)}</g></svg>\n'
    )
    (Path(__file__).parent / "response.svg").write_text(re.sub(r"\n\s*", "\n", content))


if __name__ == "__main__":
    main(sys.argv[1])
