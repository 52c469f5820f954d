"""A table for the terminal, 80 columns wide."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest
from typing import NamedTuple

from rich.text import Text

from robustbench_pcl.report.described import DescribedTable
from robustbench_pcl.report.entries import Row, Table
from robustbench_pcl.report.formatting import (
    counted,
    percent,
    show_difference,
    show_measured,
    show_published,
    superscript,
)

WIDTH = 80
SHORT = 12
"""Entries of a table of words that are no longer are never broken."""


class Cell(NamedTuple):
    """A number, the sign behind it (a blank stands for none, so that digits align), its style."""

    text: str
    sign: str = " "
    style: str = ""


class Line(NamedTuple):
    """One line of a row: what stands before it, and a number for each column."""

    label: str
    cells: Sequence[Cell]


def plain_text(table: Table | DescribedTable, *, interval: bool = False) -> str:
    """The table without styles, lines of at most 80 columns, no blanks at their ends."""
    text = terminal_text(table, interval=interval)
    return "".join(f"{line.rstrip()}\n" for line in text.plain.splitlines())


def terminal_text(table: Table | DescribedTable, *, interval: bool = False) -> Text:
    """The table with the best numbers bold and what they are compared with dim.

    Args:
        table: what to show.
        interval: with each measured number's 95 % interval.
    """
    text = Text()
    text.append(f"{table.heading}\n", style="bold")
    _paragraph(text, table.caption)
    if isinstance(table, DescribedTable):
        _words(text, table)
        return text
    _paragraph(text, legend(table, "*", interval=interval))
    remarks = {remark: superscript(number) for number, remark in enumerate(table.remarks, 1)}
    for section in table.sections:
        text.append(f"\n{section.heading}\n", style="bold")
        lines = [line for row in section.rows for line in _lines(table, row, remarks, interval)]
        _section(text, table, lines)
        for note in section.footnotes:
            _paragraph(text, note, first="- ")
    text.append("\n" if remarks else "")
    for remark, number in remarks.items():
        _paragraph(text, remark, first=f"{number} ")
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


def legend(table: Table, best: str, *, interval: bool) -> str:
    """What the lines of a row are, in a sentence; ``best`` is how the best is marked."""
    lines = [f"measured ({best} best of the recipes compared)"]
    lines += [f"its {percent('95')} interval"] * interval
    if table.has_published:
        lines += ["the paper's number", "measured less the paper's"]
    return f"Line by line: {', '.join(lines)}."


def _lines(table: Table, row: Row, remarks: dict[str, str], interval: bool) -> Iterator[Line]:
    """Measured, the interval where it is wanted, the paper's number, and the difference."""
    measured, published, differing = [], [], []
    for entry in row.entries:
        quantity = entry.cell.quantity
        underline = ["underline"] * (table.is_matrix and entry.cell.white_box)
        measured.append(
            Cell(
                show_measured(entry.measured, quantity),
                "*" if entry.best else " ",
                " ".join(["bold"] * entry.best + underline),
            )
        )
        mark = remarks.get(entry.remark, " ")
        published.append(Cell(show_published(entry.published, quantity), mark))
        differing.append(Cell(show_difference(entry.difference, quantity)))
    yield Line(row.heading.name, measured)
    intervals = [entry.interval for entry in row.entries]
    if interval and any(intervals):
        for label, end in (("  from", 0), ("  to", 1)):
            yield Line(
                label, [Cell(show_measured(each[end]) if each else "") for each in intervals]
            )
    if any(entry.published is not None for entry in row.entries):
        yield Line("  paper", published)
    if any(cell.text for cell in differing):
        yield Line("  diff.", differing)


def _section(text: Text, table: Table, lines: Sequence[Line]) -> None:
    """Append a section's numbers, in blocks of as many columns as fit."""
    labels = max(len(line.label) for line in lines)
    digits = [
        1 + max(map(len, (cell.text for cell in cells)))
        for cells in zip(*(line.cells for line in lines), strict=True)
    ]
    names = [column.label for column in table.columns]
    widths = list(map(max, digits, map(len, names)))
    if labels + sum(widths) + len(widths) > WIDTH:
        longest = [max(map(len, name.split())) for name in names]
        widths = list(map(max, digits, longest))
    for block in _blocks(table, widths, WIDTH - labels):
        gap = 2 if labels + sum(widths[index] + 2 for index in block) <= WIDTH else 1
        places = [(index, widths[index] + gap) for index in block]
        _head(text, table, labels, places)
        for line in lines:
            _line(text, line, labels, places)


def _blocks(table: Table, widths: Sequence[int], room: int) -> Iterator[list[int]]:
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


def _head(text: Text, table: Table, labels: int, places: Sequence[tuple[int, int]]) -> None:
    """The columns' headings, above the digits where they fit, and over them those of groups."""
    headings = [(table.columns[index], width) for index, width in places]
    if any(heading.group for heading, _ in headings):
        text.append(" " * labels)
        for group, members in groupby(headings, lambda member: member[0].group):
            span = sum(width for _, width in members)
            title = f" {group} ".center(span - 3, "─") if group else ""
            text.append(f"{title.rjust(span - 1)} ")
        text.append("\n")
    broken = [textwrap.wrap(heading.label, width - 1) for heading, width in headings]
    height = max(map(len, broken))
    for level in range(height):
        text.append(" " * labels)
        for words, (_, width) in zip(broken, places, strict=True):
            at = level - height + len(words)
            word = words[at] if at >= 0 else ""
            text.append((word + " " * (len(word) + 2 <= width)).rjust(width), style="bold")
        text.append("\n")


def _line(text: Text, line: Line, labels: int, places: Sequence[tuple[int, int]]) -> None:
    """One line of the block, unless all its cells are empty."""
    if not any(line.cells[index].text for index, _ in places):
        return
    quiet = "dim" if line.label.startswith(" ") else ""
    text.append(line.label.ljust(labels), style=quiet)
    for index, width in places:
        cell = line.cells[index]
        shown = cell.text + cell.sign
        text.append(" " * (width - len(shown)))
        text.append(shown, style=cell.style or quiet)
    text.append("\n")


def _words(text: Text, table: DescribedTable) -> None:
    """Append a table of words, long entries in several lines."""
    text.append("\n")
    columns = list(zip(table.columns, *table.rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    # What short columns leave is shared by those with long entries.
    left = WIDTH - sum(width for width in widths if width <= SHORT) - 2 * (len(widths) - 1)
    share = left // max(1, sum(width > SHORT for width in widths))
    widths = [width if width <= SHORT else min(width, share) for width in widths]
    for row in (table.columns, tuple("─" * width for width in widths), *table.rows):
        cells = [_wrapped(entry, width) for entry, width in zip(row, widths, strict=True)]
        for line in zip_longest(*cells, fillvalue=""):
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            text.append("  ".join(padded) + "\n")
    for note in table.footnotes:
        _paragraph(text, note, first="- ")


def _wrapped(entry: str, width: int) -> list[str]:
    """The entry in lines; none ends within ``Conv(16, 3x3)``, ``[...] x 12`` or ``i = 10``."""
    together = re.sub(r" (?==|x \d|\dx\d)|(?<==) |(?<= x) (?=\d)", "\N{NO-BREAK SPACE}", entry)
    lines = textwrap.wrap(together, width, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
