"""Writes figures: as inline SVG for the page, and as SVG and PDF files."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.report import theme
from study.results.folder import StudyFolder


class FigureWriter:
    """Turns figures into inline SVG, and into SVG and PDF files if there is a folder.

    Args:
        folder: the study folder whose `analysis/figures/` receives the files; None for no files.
    """

    def __init__(self, folder: StudyFolder | None) -> None:
        self._folder = folder

    def save(self, figure: Figure, name: str, alt: str) -> str:
        """Write a figure's files.

        Args:
            figure: drawn in `theme.STYLE`.
            name: unique in the page; the files are named after it.
            alt: description for readers who do not see the figure; plain text.

        Returns:
            the figure as an `<svg>` element.
        """
        document = theme.svg(figure)
        if self._folder is not None:
            on_paper = theme.paper_svg(document).encode()
            self._folder.write_bytes(f"analysis/figures/{name}.svg", on_paper)
            self._folder.write_bytes(f"analysis/figures/{name}.pdf", theme.pdf(figure))
        return theme.inline_svg(document, name, alt)

    def save_variants(self, wide: Figure, narrow: Figure, name: str, alt: str) -> str:
        """Write the files of a figure that exists for large and for small screens.

        Args:
            wide: for a large screen and paper.
            narrow: for a phone; its files end in `-narrow`.
            name: as of `save`.
            alt: as of `save`.

        Returns:
            both `<svg>` elements; the page shows the one that fits the screen.
        """
        variants = {"wide": self.save(wide, name, alt)}
        variants["narrow"] = self.save(narrow, f"{name}-narrow", alt)
        return "".join(f'<div class="{variant}">{svg}</div>' for variant, svg in variants.items())
