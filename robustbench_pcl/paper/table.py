"""A published table: its rows, its columns, the question each position asks, the printed number."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib import resources
from itertools import product
from typing import NamedTuple, Self

from pydantic import Field, model_validator

from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.budgets import own_budget, with_budget
from robustbench_pcl.paper.heading import Heading
from robustbench_pcl.specs.base import Spec
from robustbench_pcl.specs.cell import Cell

__all__ = [
    "Heading",
    "PaperTable",
    "Position",
    "Remark",
    "Section",
    "published",
    "published_numbers",
]


class Section(Spec):
    """The part of a table about one data set.

    Attributes:
        dataset: name in the catalogue.
        eps: L-infinity budget in pixels of [0, 1], or None where no attack takes it.
        c: Carlini and Wagner's initial constant, or None.
        values: the printed numbers, one tuple a row, None where the paper prints none.
        notes: what the paper's text says about the section's numbers.
    """

    dataset: str
    eps: float | None = Field(default=None, gt=0, le=1)
    c: float | None = Field(default=None, gt=0)
    values: tuple[tuple[float | None, ...], ...]
    notes: tuple[str, ...] = ()


class Remark(Spec):
    """What has to be known about one printed number, for instance that another table differs."""

    dataset: str
    row: str
    column: str
    text: str


class Position(NamedTuple):
    """One position of a table.

    Attributes:
        row: its row.
        column: its column.
        cell: the question it asks.
        published: the paper's answer (per cent, seconds or epochs), or None.
        remark: what has to be known about the paper's answer, or "".
    """

    row: Heading
    column: Heading
    cell: Cell
    published: float | None
    remark: str


class PaperTable(Spec):
    """A table of the paper *Deeply Supervised Discriminative Learning for Adversarial Defense*.

    Attributes:
        number: the paper's.
        title: what it is about, in a few words.
        caption: what the numbers are.
        columns: from left to right.
        rows: from top to bottom, the same for every data set but for budgets of their own.
        sections: one a data set, in the paper's order.
        remarks: on single numbers.
    """

    number: int
    title: str
    caption: str
    columns: tuple[Heading, ...]
    rows: tuple[Heading, ...]
    sections: tuple[Section, ...]
    remarks: tuple[Remark, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for row, column in product(self.rows, self.columns):
            for field in ("target", "source", "attack", "quantity"):
                if getattr(row, field) is not None and getattr(column, field) is not None:
                    raise ValueError(f"{row.name} and {column.name} both give a {field}")
            if row.target is None and column.target is None:
                raise ValueError(f"{row.name} and {column.name} give no target")
        for column in self.columns:
            if column.attack and own_budget(column.attack) is not None:
                raise ValueError(f"{column.name} gives a budget, which only a row may")
        sides = (self.rows_for(self.datasets[0]), self.columns)
        names = [{heading.name for heading in side} for side in sides]
        if [len(self.rows), len(self.columns)] != [len(side) for side in names]:
            raise ValueError("two headings have the same name")
        for section in self.sections:
            if [len(values) for values in section.values] != [len(self.columns)] * len(self.rows):
                raise ValueError(f"{section.dataset} has not one value a position")
        for remark in self.remarks:
            if remark.row not in names[0] or remark.column not in names[1]:
                raise ValueError(f"there is no position for the remark {remark.text!r}")
        return self

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets the paper has numbers for, in its order."""
        return tuple(section.dataset for section in self.sections)

    @property
    def targets_in_rows(self) -> bool:
        """Whether a row is a recipe, so that recipes are compared down a column."""
        return all(row.target for row in self.rows)

    @property
    def is_matrix(self) -> bool:
        """Whether rows are sources and columns targets, so that the diagonal is white-box."""
        return all(row.source for row in self.rows) and all(col.target for col in self.columns)

    def rows_for(self, dataset: str) -> tuple[Heading, ...]:
        """The rows as they are asked about a data set, with the numbers in their labels.

        A budget that a row gives is meant for the paper's first data set; where the paper has no
        section, the budget keeps its proportion to the data set's standard budget.

        Raises:
            UserError: there is no data set of that name.
        """
        asked = dataset_spec(dataset)
        printed = asked if dataset in self.datasets else dataset_spec(self.datasets[0])
        return tuple(row.asked(printed, asked) for row in self.rows)

    def section(self, dataset: str) -> Section:
        """The paper's section on a data set, or an empty one with that data set's own budgets.

        Where the paper's sections give no budget, because the rows do, the empty one gives none.

        Raises:
            UserError: there is no data set of that name.
        """
        for section in self.sections:
            if section.dataset == dataset:
                return section
        spec, printed = dataset_spec(dataset), self.sections[0]
        return Section(
            dataset=dataset,
            eps=None if printed.eps is None else spec.eps,
            c=None if printed.c is None else spec.carlini_wagner_c,
            values=((None,) * len(self.columns),) * len(self.rows),
        )

    def extended(self, recipes: Sequence[str]) -> PaperTable:
        """A matrix with further recipes as sources and targets; the paper has no numbers for them.

        Raises:
            ValueError: the table is not a matrix.
        """
        if not self.is_matrix:
            raise ValueError(f"table {self.number} is not a matrix of sources and targets")
        row, column = self.rows[0], self.columns[0]
        rows = [Heading(label=name, source=name, attack=row.attack) for name in recipes]
        columns = [Heading(label=name, group=column.group, target=name) for name in recipes]
        beside = (None,) * len(recipes)
        below = ((None,) * (len(self.columns) + len(recipes)),) * len(recipes)
        sections = [
            section.model_copy(
                update={"values": (*((*values, *beside) for values in section.values), *below)}
            )
            for section in self.sections
        ]
        return self.model_copy(
            update={
                "columns": (*self.columns, *columns),
                "rows": (*self.rows, *rows),
                "sections": tuple(sections),
            }
        )

    def positions(self, dataset: str) -> tuple[Position, ...]:
        """Every position of the table for a data set, row by row.

        Raises:
            UserError: there is no data set of that name.
        """
        section = self.section(dataset)
        remarks = {
            (remark.row, remark.column): remark.text
            for remark in self.remarks
            if remark.dataset == dataset
        }
        return tuple(
            Position(
                row=row,
                column=column,
                cell=_question(section, row, column),
                published=value,
                remark=remarks.get((row.name, column.name), ""),
            )
            for row, values in zip(self.rows_for(dataset), section.values, strict=True)
            for column, value in zip(self.columns, values, strict=True)
        )


def published_numbers() -> tuple[int, ...]:
    """The numbers of the paper's tables that are stored here."""
    names = (file.name for file in resources.files(__package__).iterdir())
    found = (re.fullmatch(r"table(\d+)\.json", name) for name in names)
    return tuple(sorted(int(match[1]) for match in found if match))


@functools.cache
def published(number: int) -> PaperTable:
    """A table of the paper.

    Raises:
        UserError: that table is not stored here; the message lists those that are.
    """
    known = published_numbers()
    if number not in known:
        raise UserError(
            f"There is no table {number} to measure.",
            f"Known: --table {', '.join(map(str, known))}.",
        )
    file = resources.files(__package__) / f"table{number:02}.json"
    return PaperTable.model_validate_json(file.read_bytes())


def _question(section: Section, row: Heading, column: Heading) -> Cell:
    target = row.target or column.target
    assert target is not None  # checked when the table was read
    attack = row.attack or column.attack
    if attack is None:
        source = None
    else:
        source = row.source or column.source or target
        attack = with_budget(attack, section.eps, section.c)
    return Cell(
        dataset=section.dataset,
        target=target,
        source=source,
        attack=attack,
        quantity=row.quantity or column.quantity or "accuracy",
    )
