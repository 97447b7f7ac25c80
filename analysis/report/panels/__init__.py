"""The panels of the report, one module each.

To add a panel, add a module here that calls `register`; the report then shows it.
"""

from analysis.report.panels.base import CaptionedFigure as CaptionedFigure
from analysis.report.panels.base import LegendKey as LegendKey
from analysis.report.panels.base import Panel as Panel
from analysis.report.panels.base import ReportSection as ReportSection
from analysis.report.panels.base import ReportTable as ReportTable
from analysis.report.panels.base import TableColumn as TableColumn
from analysis.report.panels.base import all_panels as all_panels
from analysis.report.panels.base import register as register
