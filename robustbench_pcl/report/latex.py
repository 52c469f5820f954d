"""LaTeX that fits into a two-column article: tables are cut to its columns.

What is written needs the package booktabs and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from robustbench_pcl.report.latex_text import BODY, escape_latex, width

COLUMN, PAGE = 229.5, 469.0
"""Points: the widths of a column and of both in ``\\documentclass[twocolumn]{article}``."""
LOW, HEIGHT = 385.0, 540.0
"""Points: how high a table may be beside text in its column, and at all, its caption included."""
LABELS = 0.42
"""Share of a table's width that the names of its rows may take before they are broken."""
TINY = 7.0
"""Points of what stands small in a table, and of its notes."""
_PARTED = re.compile(r"( (?!\+)|~|\\allowbreak\{\})")
"""Where the head of a column may be broken."""
LEADING = 1.23
"""Distance of two lines, in sizes of the type."""
SIZES = ((r"\small", 9.0, 4.0), (r"\footnotesize", 8.0, 3.0))
"""A table's type: the command, its points, and the points on either side of a column."""


class Line(NamedTuple):
    """One line of a row: its cells from left to right, the row's name first, and its type."""

    cells: tuple[str, ...]
    style: str = ""


@dataclass(frozen=True)
class Grid:
    """A table that is not laid out yet; what is not :class:`Verbatim` is escaped.

    Attributes:
        caption: what it shows: data set, scale, n.
        label: by which a document refers to it, unique.
        heads: over each column.
        rows: of one line or several each, which stay together.
        groups: over the columns' heads, "" for none.
        notes: stand beneath it.
        words: entries are words, which are broken into lines, not numbers.
    """

    caption: str
    label: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Line, ...], ...]
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    words: bool = False


class Float(NamedTuple):
    """A table as its template writes it, all LaTeX.

    Attributes:
        environment: ``table`` or ``table*``, over both columns.
        caption: beneath which it stands.
        label: by which a document refers to it.
        type: commands for its size.
        columns: how entries are aligned, without space at both ends.
        heads: lines of its head.
        rows: of lines.
        notes: beneath it.
    """

    environment: str
    caption: str
    label: str
    type: str
    columns: str
    heads: list[str]
    rows: list[list[str]]
    notes: list[str]


class _Fit(NamedTuple):
    """How a grid's columns stand.

    Attributes:
        environment: of the float.
        across: how wide that is, in points.
        command: for the size of the type.
        size: in points.
        gap: on either side of a column, in points.
        widths: of the columns, in points.
        broken: whether a column's entries are broken into lines.
        heads: of the columns, in lines.
    """

    environment: str
    across: float
    command: str
    size: float
    gap: float
    widths: list[float]
    broken: list[bool]
    heads: list[list[str]]


def laid_out(grids: Sequence[Grid]) -> list[Float]:
    r"""The tables as floats that fit a two-column article.

    A table stands in one column if it fits there in ``\small`` or ``\footnotesize``, else across
    both. What is too wide for that is parted by columns, what is too high by rows; the further
    parts' labels end in -2, -3.
    """
    floats = []
    for grid in map(_escaped, grids):
        parts = [page for part in _narrow_enough(grid) for page in _low_enough(*part)]
        for number, part in enumerate(parts, 1):
            label = grid.label if number == 1 else f"{grid.label}-{number}"
            counted = f" (part {number} of {len(parts)})" if len(parts) > 1 else ""
            floats.append(part._replace(label=label, caption=f"{part.caption}{counted}."))
    return floats


def _escaped(grid: Grid) -> Grid:
    """The grid with all its words as LaTeX."""
    rows = (
        tuple(line._replace(cells=tuple(map(escape_latex, line.cells))) for line in row)
        for row in grid.rows
    )
    return replace(
        grid,
        caption=escape_latex(grid.caption),
        heads=tuple(map(escape_latex, grid.heads)),
        groups=tuple(map(escape_latex, grid.groups or [""] * len(grid.heads))),
        rows=tuple(rows),
        notes=tuple(map(escape_latex, grid.notes)),
    )


def _narrow_enough(grid: Grid) -> Iterator[tuple[Grid, _Fit]]:
    """The grid, or parts with as many of its columns as fit across the page."""
    fit = _fit(grid)
    if fit is not None:
        yield grid, fit
        return
    half = (len(grid.heads) + 1) // 2
    for places in (range(1, half), range(half, len(grid.heads))):
        yield from _narrow_enough(_only(grid, [0, *places]))


def _only(grid: Grid, places: Sequence[int]) -> Grid:
    """The grid with some of its columns; notes stand beneath those with the first."""
    rows = (
        tuple(line._replace(cells=tuple(line.cells[place] for place in places)) for line in row)
        for row in grid.rows
    )
    return replace(
        grid,
        heads=tuple(grid.heads[place] for place in places),
        groups=tuple(grid.groups[place] for place in places),
        rows=tuple(rows),
        notes=grid.notes if 1 in places else (),
    )


def _fit(grid: Grid) -> _Fit | None:
    """The smallest place that a grid fits into; None if parts of it have to be made."""
    for environment, across in (("table", COLUMN), ("table*", PAGE)):
        for command, size, gap in SIZES:
            room = across - 2 * gap * (len(grid.heads) - 1)
            for wrap in (False, True):
                widths, heads = _natural(grid, size, wrap=wrap)
                taken = _broken(widths, room, words=grid.words and across == PAGE)
                if sum(taken) <= room or (across == PAGE and len(widths) <= 2):
                    broken = [own < whole for own, whole in zip(taken, widths, strict=True)]
                    fit = _Fit(environment, across, command, size, gap, taken, broken, heads)
                    top, rows, notes = _heights(grid, fit)
                    if across == PAGE or top + sum(rows) + sum(notes) < LOW:
                        return fit
    return None


def _natural(grid: Grid, size: float, *, wrap: bool) -> tuple[list[float], list[list[str]]]:
    """How wide each column is, and its head, in one line or broken as the numbers allow."""
    columns = zip(*(line.cells for row in grid.rows for line in row), strict=True)
    styles = [line.style for row in grid.rows for line in row]
    widths = [
        max(
            width(cell, TINY if style else size) for cell, style in zip(column, styles, strict=True)
        )
        for column in columns
    ] or [0.0] * len(grid.heads)
    heads = []
    for place, head in enumerate(grid.heads):
        first, *others = _PARTED.split(head) if wrap else [head]
        widths[place] = max([widths[place], *(width(part, size) for part in (first, *others))])
        lines = [first]
        for between, part in zip(others[::2], others[1::2], strict=True):
            longer = f"{lines[-1]}{between}{part}"
            lines[-1:] = [longer] if width(longer, size) <= widths[place] else [lines[-1], part]
        heads.append(lines)
    for name, group in groupby(range(len(heads)), lambda place: grid.groups[place]):
        places = list(group)
        widths[places[-1]] += max(0.0, width(name, size) - sum(widths[place] for place in places))
    return widths, heads


def _broken(widths: Sequence[float], room: float, *, words: bool) -> list[float]:
    """The widths of columns, less where entries are broken: of words, else of the rows' names."""
    taken = list(widths)
    if not words:
        taken[0] = min(widths[0], LABELS * room) if sum(widths) > room else widths[0]
        return taken
    left, columns = room, sorted(range(len(widths)), key=lambda place: widths[place])
    for rank, place in enumerate(columns):
        taken[place] = min(widths[place], left / (len(columns) - rank))
        left -= taken[place]
    return taken


def _low_enough(grid: Grid, fit: _Fit) -> Iterator[Float]:
    """The grid as a float, or several, none higher than a page."""
    top, of_rows, of_notes = _heights(grid, fit)
    rows: list[list[str]] = []
    notes: list[str] = []
    height = top
    for row, needed in zip(grid.rows, of_rows, strict=True):
        if rows and height + needed > HEIGHT:
            yield _float(grid, fit, rows, notes)
            rows, height = [], top
        rows.append([_line(line, fit) for line in row])
        height += needed
    for note, needed in zip(grid.notes, of_notes, strict=True):
        if height + needed > HEIGHT:
            yield _float(grid, fit, rows, notes)
            rows, notes, height = [], [], top
        notes.append(note)
        height += needed
    yield _float(grid, fit, rows, notes)


def _heights(grid: Grid, fit: _Fit) -> tuple[float, list[float], list[float]]:
    """How high the caption and the head are together, each row, and each note."""
    lines = 2 + max(map(len, fit.heads)) + any(grid.groups)
    top = fit.size * LEADING * lines + _height(grid.caption, fit.across, BODY)
    rows = [sum(_row_height(line, fit) for line in row) + 3.0 for row in grid.rows]
    return top, rows, [_height(note, fit.across, TINY) for note in grid.notes]


def _height(text: str, across: float, size: float) -> float:
    """How high a paragraph is."""
    return LEADING * size * (1 + width(text, size) // across)


def _row_height(line: Line, fit: _Fit) -> float:
    return max(
        _height(cell, 0.9 * wide if broken else PAGE, fit.size)
        for cell, wide, broken in zip(line.cells, fit.widths, fit.broken, strict=True)
    )


def _line(line: Line, fit: _Fit) -> str:
    """A line of a row, without its end."""
    cells = [
        rf"\raggedright\hspace{{0pt}}{cell}" if broken and cell else cell
        for cell, broken in zip(line.cells, fit.broken, strict=True)
    ]
    return " & ".join(f"{line.style} {cell}".strip() if cell else "" for cell in cells)


def _float(grid: Grid, fit: _Fit, rows: list[list[str]], notes: list[str]) -> Float:
    side = "l" if grid.words else "r"
    columns = [
        f"p{{{wide:.0f}pt}}" if broken else side if place else "l"
        for place, (wide, broken) in enumerate(zip(fit.widths, fit.broken, strict=True))
    ]
    return Float(
        environment=fit.environment,
        caption=grid.caption,
        label=grid.label,
        type=rf"{fit.command}\setlength{{\tabcolsep}}{{{fit.gap:g}pt}}",
        columns="".join(columns),
        heads=list(_heads(grid, fit.heads)) if rows else [],
        rows=list(rows),
        notes=list(notes),
    )


def _heads(grid: Grid, heads: list[list[str]]) -> Iterator[str]:
    """The lines over the numbers: groups with rules beneath them, and the columns' heads."""
    if any(grid.groups):
        spans, rules, place = [], [], 1
        for name, members in groupby(grid.groups):
            count = len(list(members))
            spans.append(
                rf"\multicolumn{{{count}}}{{c}}{{{name}}}" if name else " & " * (count - 1)
            )
            rules += [rf"\cmidrule(lr){{{place}-{place + count - 1}}}"] * bool(name)
            place += count
        yield rf"{' & '.join(spans)} \\ {' '.join(rules)}"
    height = max(map(len, heads))
    for level in range(height):
        words = [
            head[level - height + len(head)] if level >= height - len(head) else ""
            for head in heads
        ]
        yield rf"{' & '.join(words)} \\"
