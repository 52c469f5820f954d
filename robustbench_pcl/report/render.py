"""The formats a table can be rendered in."""

from __future__ import annotations

from collections.abc import Callable

from robustbench_pcl.registry import Family
from robustbench_pcl.report.model import ReportTable

Renderer = Callable[[ReportTable], str]

FORMATS: Family[Renderer] = Family(
    "format",
    {
        "text": "robustbench_pcl.report.text:render_text",
        "md": "robustbench_pcl.report.markdown:render_markdown",
        "latex": "robustbench_pcl.report.latex:render_latex",
        "html": "robustbench_pcl.report.html:render_html",
        "csv": "robustbench_pcl.report.tidy:render_csv",
        "json": "robustbench_pcl.report.tidy:render_json",
    },
)


def render(table: ReportTable, form: str) -> str:
    """The table in the named format, ending in a newline.

    Raises:
        UserError: there is no such format.
    """
    return FORMATS[form](table)
