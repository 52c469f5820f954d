"""A table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from robustbench_pcl.report.formatting import (
    percent,
    show_difference,
    show_interval,
    show_measured,
    show_published,
    superscript,
)
from robustbench_pcl.report.tables.described import DescribedTable
from robustbench_pcl.report.tables.model import Entry, ReportTable


def render_markdown(table: ReportTable) -> str:
    """The table with its footnotes, one Markdown table a data set."""
    headings = ["", *(column.name for column in table.columns)]
    parts = [f"## {table.heading}", f"{_escaped(table.caption)} {_legend(table)}"]
    for section in table.sections:
        rows = [
            [_escaped(row.heading.name), *(_entry(table, entry) for entry in row.entries)]
            for row in section.rows
        ]
        parts += [f"### {section.heading}", _grid(headings, rows, "right")]
        parts.append(_notes(section.footnotes))
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


def described_markdown(table: DescribedTable) -> str:
    """A table of words with its footnotes."""
    rows = [list(map(_escaped, row)) for row in table.rows]
    grid = _grid(table.columns, rows, "left")
    parts = [f"## {table.heading}", _escaped(table.caption), grid, _notes(table.footnotes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _legend(table: ReportTable) -> str:
    interval = f" [its {percent('95')} interval]" if table.intervals else ""
    published = " (the paper's number, measured less the paper's)" if table.has_published else ""
    return f"Measured{interval}{published}; **bold**: best of the recipes compared."


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    from tabulate import tabulate

    return tabulate(
        rows,
        headers=list(map(_escaped, headings)),
        tablefmt="github",
        disable_numparse=True,
        colalign=["left", *[align] * (len(headings) - 1)],
    )


def _notes(notes: Iterable[str]) -> str:
    return "\n".join(f"- {_escaped(note)}" for note in notes)


def _entry(table: ReportTable, entry: Entry) -> str:
    measured = show_measured(entry.measured, entry.cell.quantity)
    if entry.best:
        measured = f"**{measured}**"
    if table.is_matrix and entry.white_box:
        measured = f"<u>{measured}</u>"
    if table.intervals and entry.interval:
        measured += f" [{show_interval(entry.interval)}]"
    if entry.published is None:
        return measured
    number = table.remark_number(entry)
    published = show_published(entry.published, entry.cell.quantity)
    published += superscript(number) if number else ""
    difference = show_difference(entry.difference, entry.cell.quantity)
    return f"{measured} ({', '.join(filter(None, (published, difference)))})"


def _escaped(text: str) -> str:
    """Text whose characters mean themselves in Markdown and inside its tables."""
    for character in "\\|*_<[]`":
        text = text.replace(character, f"\\{character}")
    return text
