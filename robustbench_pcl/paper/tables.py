"""The paper's tables as data: rows, columns, the question each position asks, the printed number.

A new table is a JSON file beside this one; its form is that of :class:`PaperTable`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib import resources
from itertools import product
from typing import Literal, NamedTuple, Self

from pydantic import model_validator

from robustbench_pcl.attacks.base import Attack, attack_label
from robustbench_pcl.configuration import Description, Eps, Positive, Scale
from robustbench_pcl.data.datasets import DatasetSpec, dataset_spec
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.recipes.load import load_attack

Quantity = Literal["accuracy", "seconds_per_epoch", "epochs"]


class AttackRequest(Description):
    """What the paper says about an attack; all else is as usual for the data set and the scale.

    Attributes:
        name: in the family of attacks.
        loss: what it maximises, where that is not its own default.
        eps: L-infinity budget in pixels of [0, 1], where it is not its section's.
        c: Carlini and Wagner's constant, where it is not its section's.
    """

    name: str
    loss: str | None = None
    eps: Eps | None = None
    c: Positive | None = None

    @property
    def label(self) -> str:
        """The attack without its budget, as papers write it: "PGD on margin"."""
        return attack_label({"name": self.name, **({"loss": self.loss} if self.loss else {})})

    @property
    def has_budget(self) -> bool:
        """Whether it says how much it may change an image."""
        return self.eps is not None or self.c is not None

    def in_proportion(self, printed: DatasetSpec, asked: DatasetSpec) -> AttackRequest:
        """The same share of another data set's standard budget; eps is at most 1.

        Args:
            printed: the data set that the budget is meant for.
            asked: the data set to attack.
        """
        # Twelve digits, so that rows of two tables that mean the same budget share their images.
        if self.eps is not None:
            scaled = min(self.eps * asked.eps / printed.eps, 1.0)
            return self.changed(eps=float(f"{scaled:.12g}"))
        if self.c is not None:
            scaled = self.c * asked.carlini_wagner_c / printed.carlini_wagner_c
            return self.changed(c=float(f"{scaled:.12g}"))
        return self

    def complete(self, dataset: str, scale: Scale) -> Attack:
        """The attack with every parameter.

        Raises:
            UserError: there is no such data set or attack, or it has no such parameter.
        """
        said = {name: value for name, value in self if name != "name" and value is not None}
        return load_attack(self.name, dataset, scale, said)


class Cell(Description):
    """One number of a table, as a question.

    Attributes:
        dataset: name of the data set.
        target: the recipe that is measured.
        source: the recipe that the adversarial images are made on: the target itself for a
            white-box attack; None for clean accuracy and for figures of a training.
        attack: the attack; None for clean accuracy.
        quantity: accuracy in per cent, or a figure of the training.
    """

    dataset: str
    target: str
    source: str | None = None
    attack: AttackRequest | None = None
    quantity: Quantity = "accuracy"

    @property
    def white_box(self) -> bool:
        """Whether the images are made on the model that is measured."""
        return self.attack is not None and self.source == self.target

    def attack_for(self, scale: Scale) -> Attack | None:
        """The complete attack that is asked for at a scale; None for clean accuracy.

        Raises:
            UserError: there is no such data set or attack.
        """
        return self.attack.complete(self.dataset, scale) if self.attack else None


class Heading(Description):
    """A row or a column: a label, and its half of the question.

    A table may have its recipes in rows and its attacks in columns (Table 3) or the other way
    round (Table 5): a row and a column together give the question, and neither may answer for the
    other.

    Attributes:
        label: as printed; ``{eps}`` or ``{c}`` stands for the budget of a row's own attack.
        group: the heading over several columns or rows, or "".
        target: the recipe that is measured.
        source: the recipe that the adversarial images are made on; the target itself if neither
            row nor column says.
        attack: the attack; without a budget of its own it gets its section's. Only a row may give
            a budget.
        quantity: accuracy if neither row nor column says.
    """

    label: str
    group: str = ""
    target: str | None = None
    source: str | None = None
    attack: AttackRequest | None = None
    quantity: Quantity | None = None

    @property
    def name(self) -> str:
        """The label with its group, which no other heading on the same side has."""
        return f"{self.group} {self.label}".lstrip()

    @property
    def names(self) -> list[str]:
        """All that it may be called: its name, its label, its group and its recipe."""
        return [name for name in (self.name, self.label, self.group, self.target) if name]


class Section(Description):
    """The part of a table about one data set.

    Attributes:
        dataset: name of the data set.
        eps: L-infinity budget in pixels of [0, 1], or None where no attack takes it.
        c: Carlini and Wagner's initial constant, or None.
        values: the printed numbers, one tuple per row, None where the paper prints none.
        notes: what the paper's text says about the section's numbers.
    """

    dataset: str
    eps: Eps | None = None
    c: Positive | None = None
    values: tuple[tuple[float | None, ...], ...]
    notes: tuple[str, ...] = ()


class Remark(Description):
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


class PaperTable(Description):
    """A table of the paper *Deeply Supervised Discriminative Learning for Adversarial Defense*.

    Attributes:
        number: the paper's.
        title: what it is about, in a few words.
        caption: what the numbers are.
        columns: from left to right.
        rows: from top to bottom, the same for every data set but for budgets of their own.
        sections: one per data set, in the paper's order.
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
            if column.attack and column.attack.has_budget:
                raise ValueError(f"{column.name} gives a budget, which only a row may")
        sides = (self.rows_for(self.datasets[0]), self.columns)
        names = [{heading.name for heading in side} for side in sides]
        if [len(self.rows), len(self.columns)] != [len(side) for side in names]:
            raise ValueError("two headings have the same name")
        for section in self.sections:
            if [len(values) for values in section.values] != [len(self.columns)] * len(self.rows):
                raise ValueError(f"{section.dataset} has not one value per position")
        for remark in self.remarks:
            if remark.row not in names[0] or remark.column not in names[1]:
                raise ValueError(f"there is no position for the remark {remark.text!r}")
        return self

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets the paper has numbers for, in its order."""
        return tuple(section.dataset for section in self.sections)

    @property
    def recipes(self) -> tuple[str, ...]:
        """What is measured, in order."""
        sides = (self.rows, self.columns)
        return tuple(heading.target for side in sides for heading in side if heading.target)

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
        rows = []
        for row in self.rows:
            if row.attack and row.attack.has_budget:
                attack = row.attack.in_proportion(printed, asked)
                eps, c = (f"{budget or 0:.3g}" for budget in (attack.eps, attack.c))
                label = row.label.format(eps=eps, c=c)
                rows.append(row.changed(attack=attack, label=label))
            else:
                rows.append(row)
        return tuple(rows)

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
        """The table with further recipes, for which the paper has no numbers.

        They stand where its own do: in rows, in columns, or in a matrix in both.
        """
        sides = (self.rows_for(self.datasets[0]), self.columns)
        taken = {heading.name for side in sides for heading in side}
        labels = {name: f"{name} (model)" if name in taken else name for name in recipes}
        row, column = self.rows[0], self.columns[0]
        rows, columns = [], []
        for name, label in labels.items():
            if self.is_matrix:
                rows.append(Heading(label=label, source=name, attack=row.attack))
            if self.targets_in_rows:
                rows.append(Heading(label=label, target=name))
            else:
                columns.append(Heading(label=label, group=column.group, target=name))
        beside = (None,) * len(columns)
        below = ((None,) * (len(self.columns) + len(columns)),) * len(rows)
        return self.changed(
            columns=(*self.columns, *columns),
            rows=(*self.rows, *rows),
            sections=tuple(
                section.changed(values=(*((*line, *beside) for line in section.values), *below))
                for section in self.sections
            ),
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
        found = []
        for row, values in zip(self.rows_for(dataset), section.values, strict=True):
            for column, value in zip(self.columns, values, strict=True):
                attack, target = row.attack or column.attack, row.target or column.target
                assert target is not None  # checked when the table was read
                if attack and not attack.has_budget:
                    budget = "c" if attack.name == "cw" else "eps"
                    attack = attack.changed(**{budget: getattr(section, budget)})
                cell = Cell(
                    dataset=dataset,
                    target=target,
                    source=(row.source or column.source or target) if attack else None,
                    attack=attack,
                    quantity=row.quantity or column.quantity or "accuracy",
                )
                remark = remarks.get((row.name, column.name), "")
                found.append(Position(row, column, cell, value, remark))
        return tuple(found)


def chosen_columns(columns: Sequence[Heading], asked: Sequence[str]) -> list[Heading]:
    """Those of a table's columns that are asked for, in its order; all if none is.

    Where no column is called just so, case, signs and references do not count: "cw" is "C&W".

    Raises:
        UserError: there is no such column.
    """
    found: list[Heading] = []
    for name in asked:
        exact = [column for column in columns if name in column.names]
        loose = [column for column in columns if _plain(name) in map(_plain, column.names)]
        if not exact and not loose:
            known = {each for column in columns for each in (column.name, column.label)}
            raise unknown_name("column", name, known)
        found += exact or loose
    return [column for column in columns if column in found or not asked]


def _plain(name: str) -> str:
    return re.sub(r"\[\d+\]|\W", "", name).casefold()


@functools.cache
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
    file = resources.files(__package__) / f"table{number:02}.json"
    if not file.is_file():
        raise UserError(
            f"There is no table {number} to measure.",
            f"Known: --table {', '.join(map(str, published_numbers()))}.",
        )
    return PaperTable.model_validate_json(file.read_bytes())
