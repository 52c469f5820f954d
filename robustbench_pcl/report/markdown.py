"""A table in Markdown."""

from __future__ import annotations

from robustbench_pcl.report.formatting import show_measured, show_published, superscript
from robustbench_pcl.report.model import Entry, ReportSection, ReportTable

LEGEND = "Measured, with the paper's number in parentheses; **bold**: best of the recipes compared."


def render_markdown(table: ReportTable) -> str:
    """The table with its footnotes, one Markdown table a data set."""
    parts = [f"## {table.heading}", f"{table.caption} {LEGEND}"]
    for section in table.sections:
        parts.append(f"### {section.heading}")
        parts.append(_grid(table, section))
        parts.append("\n".join(f"- {_escaped(note)}" for note in section.footnotes))
    parts.append(
        "\n".join(
            f"- {superscript(number)} {_escaped(remark)}"
            for number, remark in enumerate(table.remarks, 1)
        )
    )
    if table.commands:
        commands = "\n".join(table.commands)
        parts.append(f"Missing cells are measured by\n\n```sh\n{commands}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _grid(table: ReportTable, section: ReportSection) -> str:
    from tabulate import tabulate

    return tabulate(
        [
            [_escaped(row.heading.label), *(_entry(table, entry) for entry in row.entries)]
            for row in section.rows
        ],
        headers=["", *(_escaped(column.name) for column in table.columns)],
        tablefmt="github",
        disable_numparse=True,
        colalign=["left", *["right"] * len(table.columns)],
    )


def _entry(table: ReportTable, entry: Entry) -> str:
    measured = show_measured(entry.measured, entry.cell.quantity)
    if entry.best:
        measured = f"**{measured}**"
    if table.is_matrix and entry.white_box:
        measured = f"<u>{measured}</u>"
    if entry.published is None:
        return measured
    number = table.remark_number(entry)
    mark = superscript(number) if number else ""
    return f"{measured} ({show_published(entry.published, entry.cell.quantity)}{mark})"


def _escaped(text: str) -> str:
    """Text whose characters mean themselves in Markdown and inside its tables."""
    for character in "\\|*_<[]`":
        text = text.replace(character, f"\\{character}")
    return text
