"""Accuracy against the strongest of all stored attacks, chosen for each image by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_

from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.configuration import Dump
from robustbench_pcl.paper.tables import Cell
from robustbench_pcl.report.formatting import per_cent, show_budget
from robustbench_pcl.report.results import Answers, Evidence, Record
from robustbench_pcl.store.records import wilson

ROUNDING = 1e-5
"""float32 pixels may leave the budget by a rounding error; a step of 8-bit pixels is 4e-3."""


@dataclass(frozen=True)
class WorstCase:
    """Accuracy when an image counts only if it withstands every attack.

    Attributes:
        eps: L-infinity budget in pixels of [0, 1].
        accuracy: per cent.
        interval: 95 % interval in per cent.
        n: images.
        attacks: what they were attacked with; a budget smaller than ``eps`` is named.
    """

    eps: float
    accuracy: float
    interval: tuple[float, float]
    n: int
    attacks: tuple[str, ...]


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
