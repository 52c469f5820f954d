"""What a table claims at least for each recipe, and what the strongest stored attacks leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from robustbench_pcl.paper.table import Heading
from robustbench_pcl.report.formatting import show_budget
from robustbench_pcl.report.tables.best import with_best
from robustbench_pcl.report.tables.model import WORST_CASE, Entry, ReportSection, ReportTable, Row
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.cell import Cell

CLAIM = "The lowest number that the table prints for an L-infinity white-box attack."


def largest_eps(cells: Iterable[Cell]) -> float | None:
    """The largest L-infinity budget of the white-box attacks, or None if there is none."""
    return max(map(_eps, filter(_within_linf, cells)), default=None)


def with_worst_cases(table: ReportTable) -> ReportTable:
    """The table with the worst cases as entries of their own, where any is known.

    They stand behind the white-box columns where recipes are in rows, else beneath the rows.
    """
    if not any(section.worst_cases for section in table.sections):
        return table
    if not table.targets_in_rows:
        sections = [_with_row(section) for section in table.sections]
        return replace(table, sections=tuple(sections))
    place = _behind_white_box(table)
    heading = Heading(label="Worst case", short="Worst", group=table.columns[place - 1].group)
    return replace(
        table,
        columns=(*table.columns[:place], heading, *table.columns[place:]),
        sections=tuple(_with_column(section, heading, place) for section in table.sections),
    )


def _behind_white_box(table: ReportTable) -> int:
    entries = [row.entries for section in table.sections for row in section.rows]
    return 1 + max(i for row in entries for i, entry in enumerate(row) if entry.white_box)


def _with_column(section: ReportSection, heading: Heading, place: int) -> ReportSection:
    worst = [_entry(heading, row.entries, section) for row in section.rows]
    rows = [
        replace(row, entries=(*row.entries[:place], entry, *row.entries[place:]))
        for row, entry in zip(section.rows, _compared(worst, section), strict=True)
    ]
    return replace(section, rows=tuple(rows))


def _with_row(section: ReportSection) -> ReportSection:
    if not section.worst_cases:
        return section
    budget = show_budget(_budget(section), None)
    heading = Heading(label=f"Worst case, {budget}", short=f"Worst {budget.removeprefix('eps = ')}")
    columns = zip(*(row.entries for row in section.rows), strict=True)
    worst = [_entry(column[0].column, column, section) for column in columns]
    return replace(section, rows=(*section.rows, Row(heading, tuple(_compared(worst, section)))))


def _compared(worst: Sequence[Entry], section: ReportSection) -> list[Entry]:
    """The worst cases, the best marked if all recipes withstood the same attacks."""
    attacks = {case.attacks for case in section.worst_cases.values()}
    return with_best(worst) if len(attacks) == 1 else list(worst)


def _entry(column: Heading, asked: Sequence[Entry], section: ReportSection) -> Entry:
    """One recipe's worst case beside the least that it is claimed to withstand.

    Args:
        column: the heading above it.
        asked: what the table asks about the recipe.
        section: where it does.
    """
    cell = asked[0].cell
    case = section.worst_cases.get(cell.target)
    printed = [entry.published for entry in asked if _within_linf(entry.cell)]
    claims = [number for number in printed if number is not None]
    return Entry(
        column=column,
        cell=Cell(
            dataset=cell.dataset,
            target=cell.target,
            source=cell.target,
            attack=Part(name=WORST_CASE, parameters={"eps": _budget(section)}),
        ),
        measured=case.accuracy if case else None,
        published=min(claims, default=None),
        n=case.n if case else None,
        interval=case.interval if case else None,
        remark=CLAIM if claims else "",
    )


def _budget(section: ReportSection) -> float:
    eps = largest_eps(entry.cell for entry in section.entries)
    assert eps is not None  # a section asks the same as one that has worst cases
    return eps


def _within_linf(cell: Cell) -> bool:
    """Whether the cell asks about a white-box attack with an L-infinity budget."""
    return bool(cell.attack and cell.source == cell.target and "eps" in cell.attack.parameters)


def _eps(cell: Cell) -> float:
    assert cell.attack is not None  # asked about cells within L-infinity only
    return float(cell.attack.parameters["eps"])
