"""A table for the terminal, 80 columns wide."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest

from rich.text import Text

from robustbench_pcl.report.formats.lines import Line, Shown, legend, lines_of
from robustbench_pcl.report.formatting import counted, superscript
from robustbench_pcl.report.tables.described import DescribedTable
from robustbench_pcl.report.tables.model import ReportSection, ReportTable

WIDTH = 80
SHORT = 12
"""Entries of a table of words that are no longer are never broken."""


def render_text(table: ReportTable) -> str:
    """The table as plain text, lines of at most 80 columns."""
    return _plain(terminal_text(table))


def described_text(table: DescribedTable) -> str:
    """A table of words as plain text, long entries in several lines."""
    text = Text()
    text.append(f"{table.heading}\n")
    _paragraph(text, table.caption)
    text.append("\n")
    widths = _word_widths(table)
    for row in (table.columns, tuple("─" * width for width in widths), *table.rows):
        cells = [_wrapped(entry, width) for entry, width in zip(row, widths, strict=True)]
        for line in zip_longest(*cells, fillvalue=""):
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            text.append("  ".join(padded) + "\n")
    for note in table.footnotes:
        _paragraph(text, note, first="- ")
    return _plain(text)


def _word_widths(table: DescribedTable) -> list[int]:
    """As wide as the entries; what short columns leave is shared by those with long entries."""
    columns = zip(table.columns, *table.rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    left = WIDTH - sum(width for width in widths if width <= SHORT) - 2 * (len(widths) - 1)
    share = left // max(1, sum(width > SHORT for width in widths))
    return [width if width <= SHORT else min(width, share) for width in widths]


def _wrapped(entry: str, width: int) -> list[str]:
    """The entry in lines; none ends within ``Conv(16, 3x3)``, ``[...] x 12`` or ``i = 10``."""
    together = re.sub(r" (?==|x \d|\dx\d)|(?<==) |(?<= x) (?=\d)", "\N{NO-BREAK SPACE}", entry)
    lines = textwrap.wrap(together, width, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _plain(text: Text) -> str:
    """The text without styles, and without blanks at the ends of lines."""
    return "".join(f"{line.rstrip()}\n" for line in text.plain.splitlines())


def terminal_text(table: ReportTable) -> Text:
    """The table with the best numbers bold and what they are compared with dim."""
    text = Text()
    text.append(f"{table.heading}\n", style="bold")
    _paragraph(text, table.caption)
    _paragraph(text, legend(table, "*"))
    for section in table.sections:
        text.append(f"\n{section.heading}\n", style="bold")
        _section(text, table, section)
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
    """Append a paragraph; one that starts with a mark is a footnote, indented and dim."""
    lines = textwrap.wrap(
        words,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    )
    text.append("\n".join(lines) + "\n", style="dim" if first else "")


def _section(text: Text, table: ReportTable, section: ReportSection) -> None:
    lines = [
        line._replace(label=f"  {line.label}" if line.label else row.heading.brief)
        for row in section.rows
        for line in lines_of(table, row)
    ]
    labels = max(len(line.label) for line in lines)
    widths = [
        max(len(column.brief), *(len(line.cells[index].text) + 1 for line in lines))
        for index, column in enumerate(table.columns)
    ]
    for block in _blocks(table, widths, WIDTH - labels):
        gap = 2 if labels + sum(widths[index] + 2 for index in block) <= WIDTH else 1
        places = [(index, widths[index] + gap) for index in block]
        _head(text, table, labels, places)
        for line in lines:
            _line(text, line, labels, places)


def _blocks(table: ReportTable, widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Columns, as many at a time as fit; a group of columns is parted only where it must be."""
    block: list[int] = []
    taken = 0
    for _, members in groupby(range(len(widths)), lambda index: table.columns[index].group):
        group = list(members)
        needed = sum(widths[index] + 1 for index in group)
        for index in group:
            if block and taken + (needed if index == group[0] else widths[index] + 1) > room:
                yield block
                block, taken = [], 0
            block.append(index)
            taken += widths[index] + 1
    yield block


def _head(text: Text, table: ReportTable, labels: int, places: Sequence[tuple[int, int]]) -> None:
    """The columns' headings, above the digits where they fit, and over them those of groups."""
    headings = [(table.columns[index], width) for index, width in places]
    if any(heading.group for heading, _ in headings):
        text.append(" " * labels)
        for group, members in groupby(headings, lambda member: member[0].group):
            span = sum(width for _, width in members)
            title = f" {group} ".center(span - 3, "─") if group else ""
            text.append(f"{title.rjust(span - 1)} ")
        text.append("\n")
    cells = [
        (heading.brief + " " * (len(heading.brief) + 2 <= width)).rjust(width)
        for heading, width in headings
    ]
    text.append(" " * labels + "".join(cells) + "\n", style="bold")


def _line(text: Text, line: Line, labels: int, places: Sequence[tuple[int, int]]) -> None:
    """One line of the block, unless all its cells are empty."""
    if not any(line.cells[index].text for index, _ in places):
        return
    quiet = "dim" if line.label.startswith(" ") else ""
    text.append(line.label.ljust(labels), style=quiet)
    for index, width in places:
        shown = line.cells[index]
        cell = shown.text + _mark(shown)
        text.append(" " * (width - len(cell)))
        style = " ".join(["bold"] * shown.best + ["underline"] * shown.white_box)
        text.append(cell, style=style or quiet)
    text.append("\n")


def _mark(shown: Shown) -> str:
    """What stands behind a number; a blank stands for no mark, so that digits align."""
    if shown.remark:
        return superscript(shown.remark)
    return "*" if shown.best else " "
