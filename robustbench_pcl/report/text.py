"""A table for the terminal, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.text import Text

from robustbench_pcl.paper.table import Heading
from robustbench_pcl.report.formatting import counted, show_measured, show_published, superscript
from robustbench_pcl.report.model import Entry, ReportSection, ReportTable, Row

WIDTH = 80
LEGEND = "Upper line: measured; lower line: the paper's; * best measured of the recipes compared."


def render_text(table: ReportTable) -> str:
    """The table as plain text, lines of at most 80 columns."""
    lines = terminal_text(table).plain.splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def terminal_text(table: ReportTable) -> Text:
    """The table with the best numbers bold and the paper's dim, for a terminal."""
    text = Text()
    text.append(f"{table.heading}\n", style="bold")
    _paragraph(text, table.caption)
    _paragraph(text, LEGEND)
    for section in table.sections:
        text.append(f"\n{section.heading}\n", style="bold")
        for entries in _blocks(table, section):
            _block(text, table, section, entries)
        for note in section.footnotes:
            _paragraph(text, note, first="- ")
    if table.remarks:
        text.append("\n")
    for number, remark in enumerate(table.remarks, 1):
        _paragraph(text, remark, first=f"{superscript(number)} ")
    if table.commands:
        cells = sum(section.missing for section in table.sections)
        text.append(f"\n{counted(cells, 'cell')} missing. Measure with\n")
        for command in table.commands:
            text.append(f"  {command}\n", style="bold")
    return text


def _paragraph(text: Text, words: str, first: str = "") -> None:
    lines = textwrap.wrap(
        words,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    )
    text.append("\n".join(lines) + "\n", style="dim" if first else "")


def _label_width(section: ReportSection) -> int:
    return max(len("  paper"), *(len(row.heading.brief) for row in section.rows))


def _measured(entry: Entry) -> str:
    """The measured number and its mark; a blank stands for no mark, so that digits align."""
    return show_measured(entry.measured, entry.cell.quantity) + ("*" if entry.best else " ")


def _published(table: ReportTable, entry: Entry) -> str:
    number = table.remark_number(entry)
    mark = superscript(number) if number else " "
    return show_published(entry.published, entry.cell.quantity) + mark


def _heading(heading: Heading) -> str:
    return f"{heading.brief} "


def _width(table: ReportTable, section: ReportSection, column: int) -> int:
    entries = [row.entries[column] for row in section.rows]
    measured = [_measured(entry) for entry in entries]
    published = [_published(table, entry) for entry in entries]
    return max(map(len, [_heading(table.columns[column]), *measured, *published]))


def _blocks(table: ReportTable, section: ReportSection) -> Iterator[list[tuple[int, int]]]:
    """Columns with their widths, as many at a time as fit beside the labels."""
    block: list[tuple[int, int]] = []
    room = WIDTH - _label_width(section)
    for column in range(len(table.columns)):
        width = _width(table, section, column)
        if block and sum(taken + 1 for _, taken in block) + width + 1 > room:
            yield block
            block = []
        block.append((column, width))
    yield block


def _block(
    text: Text, table: ReportTable, section: ReportSection, columns: Sequence[tuple[int, int]]
) -> None:
    labels = _label_width(section)
    gap = 2 if labels + sum(width + 2 for _, width in columns) <= WIDTH else 1
    widths = [width + gap for _, width in columns]
    headings = [table.columns[column] for column, _ in columns]
    if any(heading.group for heading in headings):
        text.append(" " * labels)
        for group, members in groupby(zip(headings, widths, strict=True), lambda m: m[0].group):
            span = sum(width for _, width in members)
            title = f" {group} ".center(span - gap - 1, "─") if group else ""
            text.append(" " * gap + title.ljust(span - gap))
        text.append("\n")
    cells = [
        _heading(heading).rjust(width) for heading, width in zip(headings, widths, strict=True)
    ]
    text.append(" " * labels + "".join(cells) + "\n", style="bold")
    for row in section.rows:
        _row(text, table, row, labels, [(column, width + gap) for column, width in columns])


def _row(
    text: Text, table: ReportTable, row: Row, labels: int, columns: Sequence[tuple[int, int]]
) -> None:
    entries = [(row.entries[column], width) for column, width in columns]
    text.append(row.heading.brief.ljust(labels))
    for entry, width in entries:
        shown = _measured(entry)
        text.append(" " * (width - len(shown)))
        style = " ".join(
            ["bold"] * entry.best + ["underline"] * (table.is_matrix and entry.white_box)
        )
        text.append(shown, style=style)
    text.append("\n")
    if any(entry.published is not None for entry, _ in entries):
        numbers = "".join(_published(table, entry).rjust(width) for entry, width in entries)
        text.append(f"{'  paper'.ljust(labels)}{numbers}\n", style="dim")
