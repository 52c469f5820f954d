"""What stands in a row, line by line, for formats that put numbers beneath each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from robustbench_pcl.report.formatting import (
    percent,
    show_difference,
    show_measured,
    show_published,
)
from robustbench_pcl.report.tables.model import Entry, ReportTable, Row


class Shown(NamedTuple):
    """One number as readers see it.

    Attributes:
        text: the number; "" where there is none.
        best: the best measured of the recipes compared.
        white_box: on the diagonal of a matrix.
        remark: number of the remark on it, or None.
    """

    text: str
    best: bool = False
    white_box: bool = False
    remark: int | None = None


class Line(NamedTuple):
    """One line: what it is, "" for the measured numbers, and a number a column."""

    label: str
    cells: tuple[Shown, ...]


def legend(table: ReportTable, best: str) -> str:
    """What the lines of a row are, in a sentence; ``best`` is how the best is marked."""
    lines = [f"measured ({best} best of the recipes compared)"]
    if table.intervals:
        lines.append(f"its {percent('95')} interval")
    if table.has_published:
        lines += ["the paper's number", "measured less the paper's"]
    return f"Line by line: {', '.join(lines)}."


def lines_of(table: ReportTable, row: Row) -> Iterator[Line]:
    """Measured, the interval where readers want it, the paper's, and the difference."""
    entries = row.entries
    yield Line("", tuple(_measured(table, entry) for entry in entries))
    if table.intervals and any(entry.interval for entry in entries):
        for label, end in (("from", 0), ("to", 1)):
            yield Line(label, tuple(_end(entry, end) for entry in entries))
    if any(entry.published is not None for entry in entries):
        yield Line("paper", tuple(_published(table, entry) for entry in entries))
    if any(entry.difference is not None for entry in entries):
        yield Line("diff.", tuple(_difference(entry) for entry in entries))


def _measured(table: ReportTable, entry: Entry) -> Shown:
    return Shown(
        show_measured(entry.measured, entry.cell.quantity),
        best=entry.best,
        white_box=table.is_matrix and entry.white_box,
    )


def _end(entry: Entry, end: int) -> Shown:
    return Shown(show_measured(entry.interval[end]) if entry.interval else "")


def _published(table: ReportTable, entry: Entry) -> Shown:
    shown = show_published(entry.published, entry.cell.quantity)
    return Shown(shown, remark=table.remark_number(entry))


def _difference(entry: Entry) -> Shown:
    return Shown(show_difference(entry.difference, entry.cell.quantity))
