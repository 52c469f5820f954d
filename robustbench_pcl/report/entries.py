"""What a rendered table is made of: sections, rows, entries; and which entry is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from robustbench_pcl.configuration import Scale
from robustbench_pcl.environment import Environment
from robustbench_pcl.paper.tables import Cell, Heading
from robustbench_pcl.report.formatting import DIGITS, show_budget

WORST_CASE = "worst-case"
"""The attack that stands for the strongest of all stored ones, image by image."""


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


@dataclass(frozen=True)
class Entry:
    """One position of a table, answered as far as it can be.

    Attributes:
        column: the heading above it.
        cell: the question.
        measured: per cent, seconds or epochs; None if nothing answers the cell.
        published: the same from the paper, or None.
        n: images measured, or None.
        interval: 95 % interval in per cent, or None.
        remark: on the published number, or "".
        best: no other recipe does better here on as many images, and some recipe does worse.
    """

    column: Heading
    cell: Cell
    measured: float | None
    published: float | None
    n: int | None = None
    interval: tuple[float, float] | None = None
    remark: str = ""
    best: bool = False

    @property
    def difference(self) -> float | None:
        """Measured less published, or None where one of them is missing."""
        if self.measured is None or self.published is None:
            return None
        return round(self.measured - self.published, DIGITS)

    @property
    def is_worst_case(self) -> bool:
        """Whether it is over all stored attacks, and not at a position of the paper's table."""
        return self.cell.attack is not None and self.cell.attack.name == WORST_CASE


@dataclass(frozen=True)
class Row:
    """A row: its heading, and an entry for each column."""

    heading: Heading
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Section:
    """The part of a table about one data set.

    Attributes:
        dataset: name of the data set.
        title: what people call it.
        scale: of the recipes measured; None if nothing was.
        eps: L-infinity budget in pixels of [0, 1], or None.
        c: Carlini and Wagner's constant, or None.
        rows: from top to bottom.
        footnotes: sentences.
        measured: how many entries have a measured number.
        missing: cells that nothing answers.
        command: fills them; "" if there are none.
        environments: where the numbers were made.
        worst_cases: recipe -> its accuracy over the stored white-box attacks within the largest
            budget that the section asks about.
    """

    dataset: str
    title: str
    scale: Scale | None
    eps: float | None
    c: float | None
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    measured: int
    missing: int
    command: str
    environments: tuple[Environment, ...]
    worst_cases: Mapping[str, WorstCase]

    @property
    def heading(self) -> str:
        """Data set, budgets and scale: "CIFAR-10 (eps = 0.03, c = 0.1), quick scale"."""
        budget = show_budget(self.eps, self.c)
        scale = f"{self.scale} scale" if self.scale else "not measured yet"
        return f"{self.title}{f' ({budget})' if budget else ''}, {scale}"

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, row by row."""
        return tuple(entry for row in self.rows for entry in row.entries)


@dataclass(frozen=True)
class Table:
    """A table ready to be rendered.

    Attributes:
        number: the paper's.
        title: what it is about.
        caption: what the numbers are.
        columns: from left to right.
        sections: one per data set.
        is_matrix: rows are sources and columns targets.
        targets_in_rows: a row is a recipe, else a column is one.
    """

    number: int
    title: str
    caption: str
    columns: tuple[Heading, ...]
    sections: tuple[Section, ...]
    is_matrix: bool
    targets_in_rows: bool

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"Table {self.number}. {self.title}"

    @property
    def column_groups(self) -> tuple[tuple[str, int], ...]:
        """The headings over the columns from left to right, each with how many it spans."""
        groups = groupby(self.columns, key=lambda column: column.group)
        return tuple((name, len(list(columns))) for name, columns in groups)

    @property
    def has_published(self) -> bool:
        """Whether the paper has a number for any entry."""
        entries = (entry for section in self.sections for entry in section.entries)
        return any(entry.published is not None for entry in entries)

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that fill the missing cells."""
        return tuple(section.command for section in self.sections if section.command)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The remarks on published numbers, in the order of their numbering from 1."""
        entries = (entry for section in self.sections for entry in section.entries)
        return tuple(dict.fromkeys(entry.remark for entry in entries if entry.remark))


def with_best(compared: Sequence[Entry]) -> list[Entry]:
    """Mark the best of the recipes that were asked the same, unless all are equal.

    Numbers from different numbers of images are not compared. Epochs are what a recipe asks for:
    fewer are not better.
    """
    quantity = compared[0].cell.quantity
    values = {entry.measured for entry in compared if entry.measured is not None}
    images = {entry.n for entry in compared if entry.measured is not None}
    if len(values) < 2 or len(images) > 1 or quantity == "epochs":
        return list(compared)
    best = max(values) if quantity == "accuracy" else min(values)
    return [replace(entry, best=entry.measured == best) for entry in compared]
