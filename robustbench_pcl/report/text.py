"""Tables, and the overview of what is measured, for the terminal: 80 columns wide."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, zip_longest
from typing import Any, NamedTuple

from rich.text import Text

from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.evaluation.statistics import LEVEL
from robustbench_pcl.paper.figures import FIGURES
from robustbench_pcl.paper.tables import published, published_numbers
from robustbench_pcl.progress import counted
from robustbench_pcl.report.described import TITLES, DescribedTable
from robustbench_pcl.report.entries import Entry, Row
from robustbench_pcl.report.figure_sections import figure_sections
from robustbench_pcl.report.formatting import (
    percent,
    short_code,
    show_difference,
    show_measured,
    show_published,
    superscript,
)
from robustbench_pcl.report.results import Evidence
from robustbench_pcl.report.table import Table, datasets_of, report_table

WIDTH = 80

SHORT = 12
"""Entries of a table of words that are no longer are never broken."""


class Cell(NamedTuple):
    """A number, the sign behind it (a blank stands for none, so that digits align), its style."""

    text: str
    sign: str = " "
    style: str = ""


Line = tuple[str, Sequence[Cell]]
"""One line of a row: what stands before it, and a number for each column."""


def terminal_text(table: Table | DescribedTable, *, interval: bool = False) -> Text:
    """The table with the best numbers bold and what they are compared with dim.

    Args:
        table: what to show.
        interval: with each measured number's 95 % interval.
    """
    text = Text()
    text.append(f"Table {table.number}. {table.title}\n", style="bold")
    _paragraph(text, table.caption)
    if isinstance(table, DescribedTable):
        _words(text, table)
        return text
    _paragraph(text, legend(table, "*:", interval=interval))
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
    """What the lines of a row are, if there are several; ``best`` is how the best is marked."""
    lines = ["measured"]
    if table.seeds:
        lines = [f"mean of {len(table.seeds)} seeds", "its standard deviation (±)"]
    if table.has_verdicts:
        lines.insert(1, "the code of its verdict (101 stands for PCL101)")
    if interval:
        lines.append(f"its {percent('95')} interval")
    if table.has_published:
        lines += ["the paper's number", "difference to the paper"]
    said = f"Line by line: {', '.join(lines)}. " * (len(lines) > 1)
    return f"{said}{best} {significance(table)}."


def significance(table: Table) -> str:
    """What the best is, in words."""
    test = "Welch's t-test over the seeds" if table.seeds else "exact McNemar test"
    level = percent(f"{100 * LEVEL:g}")
    return (
        "significantly better than every other recipe compared, on the same images "
        f"({test}, {level} level)"
    )


def _lines(table: Table, row: Row, remarks: dict[str, str], interval: bool) -> Iterator[Line]:
    """Measured, what belongs to it, the paper's number, and the difference."""
    measured, published, differing = [], [], []
    # Two words are as wide as a recipe's column only where the recipe has a row.
    words = [[each.words] if row.heading.target else each.words.split() for each in row.entries]
    for entry, (first, *_) in zip(row.entries, (each or [""] for each in words), strict=True):
        quantity = entry.cell.quantity
        underline = ["underline"] * (
            table.is_matrix and entry.cell.white_box and not entry.is_summary
        )
        measured.append(
            Cell(
                first or show_measured(entry.measured, quantity),
                "*" if entry.best else entry.mark or " ",
                " ".join(["bold"] * entry.best + underline),
            )
        )
        mark = remarks.get(entry.remark, " ")
        paper = "" if entry.words else show_published(entry.published, quantity)
        published.append(Cell(paper, mark))
        differing.append(Cell(show_difference(entry.difference, quantity)))
    yield row.heading.name, measured
    if any(each[1:] for each in words):
        yield " ", [Cell(" ".join(each[1:])) for each in words]
    if any(entry.verdict for entry in row.entries):
        yield "  verdict", [Cell(short_code(entry.verdict)) for entry in row.entries]
    if any(entry.spread is not None for entry in row.entries):
        yield "  ±", [Cell(show_spread(entry)) for entry in row.entries]
    intervals = [entry.interval for entry in row.entries]
    if interval and any(intervals):
        for label, end in (("  from", 0), ("  to", 1)):
            yield label, [Cell(show_measured(each[end]) if each else "") for each in intervals]
    if any(entry.published is not None for entry in row.entries):
        yield "  paper", published
    if any(cell.text for cell in differing):
        yield "  diff.", differing


def show_spread(entry: Entry) -> str:
    """The standard deviation over the seeds; "" for fewer than two."""
    return "" if entry.spread is None else show_measured(entry.spread, entry.cell.quantity)


def _section(text: Text, table: Table, lines: Sequence[Line]) -> None:
    """Append a section's numbers, in blocks of as many columns as fit."""
    labels = max(len(label) for label, _ in lines)
    digits = [
        1 + max(map(len, (cell.text for cell in cells)))
        for cells in zip(*(cells for _, cells in lines), strict=True)
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
        for label, cells in lines:
            if not any(cells[index].text for index in block):
                continue
            quiet = "dim" if label.startswith(" ") else ""
            text.append(label.ljust(labels), style=quiet)
            for index, width in places:
                shown = cells[index].text + cells[index].sign
                text.append(" " * (width - len(shown)))
                text.append(shown, style=cells[index].style or quiet)
            text.append("\n")


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


Part = dict[str, Any]


def overview(
    evidence: Evidence,
    datasets: Sequence[str] = (),
    *,
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[Part]:
    """One record for each part of the paper and data set: how much is measured, and what to run.

    Args:
        evidence: all records there are.
        datasets: only these; by default the paper's and those with something measured.
        scale: of the recipes; by default the most faithful one measured.
        seed: of the recipes' training; any by default.

    Returns:
        The fields of the document "overview" (``schema.toml``); ``kind`` is "table" or "figure",
        and ``dataset`` None for what is printed from the code.

    Raises:
        UserError: there is no such data set, or a file is damaged.
    """
    lines: list[Part] = []
    for number in sorted({*TITLES, *published_numbers()}):
        if number in TITLES:
            lines.append(_part("table", number, TITLES[number], None))
        else:
            lines += _table_parts(number, evidence, datasets, scale, seed)
    for number in FIGURES:
        lines += _figure_parts(number, evidence, datasets, scale, seed)
    return lines


def overview_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """The records of :func:`overview` for a terminal, lines of at most 80 columns."""
    text = []
    for (kind, number, title), parts in groupby(
        lines, key=lambda line: (line["kind"], line["number"], line["title"])
    ):
        text.append(f"{kind.capitalize()} {number}. {title}")
        for line in parts:
            if line["dataset"] is None:
                text.append("  printed from the code")
                continue
            measured, name = line["measured_count"], dataset_spec(line["dataset"]).title
            counts = f"{measured} of {measured + line['missing_count']}"
            text.append(f"  {name:<10}{counts:<9} {line['command']}".rstrip())
    shown = "pclbench report --table 3, --figure 7 or --page"
    return "\n".join([*text, "", f"Show one with: {shown}"]) + "\n"


def _table_parts(
    number: int,
    evidence: Evidence,
    datasets: Sequence[str],
    scale: Scale | None,
    seed: int | None,
) -> Iterator[Part]:
    paper = published(number)
    asked = datasets or datasets_of(paper, evidence)
    seeds = [] if seed is None else [seed]
    for section in report_table(number, evidence, asked, scale, seeds).sections:
        if datasets or section.measured or section.dataset in paper.datasets:
            yield _part(
                "table",
                number,
                paper.title,
                section.dataset,
                scale=section.scale,
                measured_count=section.measured,
                missing_count=section.missing,
                command=section.command,
            )


def _figure_parts(
    number: int,
    evidence: Evidence,
    datasets: Sequence[str],
    scale: Scale | None,
    seed: int | None,
) -> Iterator[Part]:
    figure, asked = FIGURES[number], datasets or tuple(DATASETS)
    for section in figure_sections(number, evidence, asked, scale=scale, seed=seed):
        if datasets or section.images or section.dataset in figure.datasets:
            yield _part(
                "figure",
                number,
                figure.title,
                section.dataset,
                scale=section.scale,
                measured_count=len(section.images),
                missing_count=len(section.missing),
                command=section.command if section.missing else "",
            )


def _part(kind: str, number: int, title: str, dataset: str | None, **counts: Any) -> Part:
    return {
        "kind": kind,
        "number": number,
        "title": title,
        "dataset": dataset,
        "scale": None,
        "measured_count": 0,
        "missing_count": 0,
        "command": "",
        **counts,
    }
