"""The formats a table can be rendered in."""

from __future__ import annotations

from collections.abc import Callable

from robustbench_pcl.registry import Family
from robustbench_pcl.report.tables.claims import with_worst_cases
from robustbench_pcl.report.tables.described import DescribedTable
from robustbench_pcl.report.tables.model import ReportTable

FORMATS: Family[Callable[[ReportTable], str]] = Family(
    "format",
    {
        "text": "robustbench_pcl.report.formats.text:render_text",
        "md": "robustbench_pcl.report.formats.markdown:render_markdown",
        "latex": "robustbench_pcl.report.formats.latex:render_latex",
        "html": "robustbench_pcl.report.formats.html:render_html",
        "csv": "robustbench_pcl.report.formats.tidy:render_csv",
        "json": "robustbench_pcl.report.formats.tidy:render_json",
    },
)
DESCRIBED_FORMATS: Family[Callable[[DescribedTable], str]] = Family(
    "format",
    {
        "text": "robustbench_pcl.report.formats.text:described_text",
        "md": "robustbench_pcl.report.formats.markdown:described_markdown",
        "latex": "robustbench_pcl.report.formats.latex:described_latex",
        "html": "robustbench_pcl.report.formats.html:described_html",
        "csv": "robustbench_pcl.report.formats.tidy:described_csv",
        "json": "robustbench_pcl.report.formats.tidy:described_json",
    },
)


def render(table: ReportTable, form: str) -> str:
    """The table with its worst cases in the named format, ending in a newline.

    Raises:
        UserError: there is no such format.
    """
    return FORMATS[form](with_worst_cases(table))


def render_described(table: DescribedTable, form: str) -> str:
    """A table of words in the named format, ending in a newline.

    Raises:
        UserError: there is no such format.
    """
    return DESCRIBED_FORMATS[form](table)
