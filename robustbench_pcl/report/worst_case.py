"""Accuracy against the strongest of all stored attacks, chosen for each image by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from operator import and_

from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.configuration import Dump
from robustbench_pcl.evaluation.statistics import wilson
from robustbench_pcl.paper.tables import AttackRequest, Cell, Heading
from robustbench_pcl.report.entries import (
    WORST_CASE,
    Entry,
    Row,
    Section,
    Table,
    WorstCase,
    with_best,
)
from robustbench_pcl.report.formatting import per_cent, show_budget
from robustbench_pcl.report.results import Answers, Evidence, Record

ROUNDING = 1e-5
"""float32 pixels may leave the budget by a rounding error; a step of 8-bit pixels is 4e-3."""
CLAIM = "The lowest number that the table prints for an L-infinity white-box attack."
HEADING = Heading(label="Worst case")


def worst_cases(
    evidence: Evidence, cells: Sequence[Cell], answers: Answers
) -> dict[str, WorstCase]:
    """The worst case of each recipe that some cell is answered for, where it was attacked.

    Args:
        evidence: all that is stored.
        cells: what a section asks; its largest white-box L-infinity budget is the worst case's.
        answers: to the cells; they say which model stands for a recipe.
    """
    eps = largest_eps(cells)
    if eps is None:
        return {}
    models = {
        cell.target: record
        for cell, record in zip(cells, answers.records, strict=True)
        if record is not None
    }
    cases = {target: worst_case(evidence, record, eps) for target, record in models.items()}
    return {target: case for target, case in cases.items() if case}


def largest_eps(cells: Iterable[Cell]) -> float | None:
    """The largest L-infinity budget of the white-box attacks, or None if there is none."""
    budgets = [cell.attack.eps for cell in cells if cell.attack and cell.white_box]
    return max((eps for eps in budgets if eps is not None), default=None)


def worst_case(evidence: Evidence, model: Record, eps: float) -> WorstCase | None:
    """The accuracy of one model against all its stored white-box attacks within a budget.

    A mean over images hides which images an attack breaks; here an image counts as correct only
    if it is correct when clean and after every attack. Attacks on other images, or on another
    number of them, cannot be combined: the images with the most attacks are taken. A set whose
    images left at the first step that fooled the model counts where none of all steps is stored.

    Args:
        evidence: all that is stored.
        model: a record of the model.
        eps: L-infinity budget in pixels of [0, 1].

    Returns:
        The worst case, or None if there is no attack.
    """
    by_images: dict[tuple[str, int], list[Record]] = defaultdict(list)
    complete: set[tuple[str, int, str]] = set()
    for record in (record for rows in evidence.records.values() for record in rows):
        if (
            hasattr(record, "verdicts")
            and record.model == model.model
            and (record.source is None or record.white_box)
            and record.largest_linf <= eps + ROUNDING
        ):
            by_images[record.data, record.n].append(record)
            if record.mode != "early-stop":
                complete.add((record.data, record.n, record.attack))
    groups = [
        [
            row
            for row in rows
            if row.mode != "early-stop" or (row.data, row.n, row.attack) not in complete
        ]
        for rows in by_images.values()
        if any(row.source for row in rows)
    ]
    if not groups:
        return None
    records = max(groups, key=lambda rows: (len({r.adversarial_set for r in rows}), rows[0].n))
    n = records[0].n
    withstood = reduce(and_, (int(record.verdicts, 16) for record in records)).bit_count()
    low, high = wilson(withstood, n)
    return WorstCase(
        eps=eps,
        accuracy=per_cent(withstood / n),
        interval=(per_cent(low), per_cent(high)),
        n=n,
        attacks=_named([record.parameters for record in records if record.source], eps),
    )


def _named(attacks: Iterable[Dump], eps: float) -> tuple[str, ...]:
    """Each attack once, with its own largest budget where that is not the whole one.

    Other parameters tell attacks apart: "BIM (eps 0.02)", "PGD", "PGD-40 on margin".
    """
    largest: dict[str, float] = defaultdict(float)
    for attack in attacks:
        label = attack_label({name: value for name, value in attack.items() if name != "eps"})
        largest[label] = max(largest[label], float(attack.get("eps", eps)))
    names = []
    for label, own in sorted(largest.items()):
        name, *others = label.split(", ")
        if own < eps - ROUNDING:
            others.append(show_budget(own, None).replace(" = ", " "))
        names.append(f"{name} ({', '.join(others)})" if others else name)
    return tuple(names)


def with_worst_cases(table: Table) -> Table:
    """The table with the worst cases as entries of their own, where any is known.

    They stand behind the white-box columns where recipes are in rows, else beneath the rows.
    """
    if not any(section.worst_cases for section in table.sections):
        return table
    if not table.targets_in_rows:
        sections = [
            _with_row(section) if section.worst_cases else section for section in table.sections
        ]
        return replace(table, sections=tuple(sections))
    entries = table.sections[0].rows[0].entries
    place = 1 + max(at for at, entry in enumerate(entries) if entry.cell.white_box)
    heading = HEADING.changed(group=table.columns[place - 1].group)
    return replace(
        table,
        columns=(*table.columns[:place], heading, *table.columns[place:]),
        sections=tuple(_with_column(section, heading, place) for section in table.sections),
    )


def _with_column(section: Section, heading: Heading, place: int) -> Section:
    worst = _entries(section, [row.entries for row in section.rows], [heading] * len(section.rows))
    rows = [
        replace(row, entries=(*row.entries[:place], entry, *row.entries[place:]))
        for row, entry in zip(section.rows, worst, strict=True)
    ]
    return replace(section, rows=tuple(rows))


def _with_row(section: Section) -> Section:
    columns = list(zip(*(row.entries for row in section.rows), strict=True))
    worst = _entries(section, columns, [column[0].column for column in columns])
    return replace(section, rows=(*section.rows, Row(HEADING, tuple(worst))))


def _entries(
    section: Section, asked: Sequence[Sequence[Entry]], columns: Sequence[Heading]
) -> list[Entry]:
    """Each recipe's worst case beside the least that it is claimed to withstand.

    The best is marked if all recipes withstood the same attacks.

    Args:
        section: what the entries join.
        asked: for each recipe what the section asks about it.
        columns: for each recipe the heading above its worst case.
    """
    eps = largest_eps(entry.cell for entry in section.entries)
    worst = []
    for entries, column in zip(asked, columns, strict=True):
        cell = entries[0].cell
        case = section.worst_cases.get(cell.target)
        claims = [
            entry.published
            for entry in entries
            if entry.published is not None and largest_eps([entry.cell])
        ]
        attack = AttackRequest(name=WORST_CASE, eps=eps)
        worst.append(
            Entry(
                column=column,
                cell=cell.changed(source=cell.target, attack=attack, quantity="accuracy"),
                measured=case.accuracy if case else None,
                published=min(claims, default=None),
                n=case.n if case else None,
                interval=case.interval if case else None,
                remark=CLAIM if claims else "",
            )
        )
    attacks = {case.attacks for case in section.worst_cases.values()}
    return with_best(worst) if len(attacks) == 1 else worst
