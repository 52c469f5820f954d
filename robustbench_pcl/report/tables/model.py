"""A table with what was measured beside what was published, ready to be rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby

from robustbench_pcl.paper.table import Heading
from robustbench_pcl.report.formatting import DIGITS, show_budget
from robustbench_pcl.report.tables.worst_case import WorstCase
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.store.records import Environment

WORST_CASE = "worst-case"
"""The attack that stands for the strongest of all stored ones, image by image."""


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
    def white_box(self) -> bool:
        """Whether the images are crafted on the model that is measured."""
        return self.cell.attack is not None and self.cell.source == self.cell.target

    @property
    def is_worst_case(self) -> bool:
        """Whether it is over all stored attacks, and not at a position of the paper's table."""
        return self.cell.attack is not None and self.cell.attack.name == WORST_CASE


@dataclass(frozen=True)
class Row:
    """A row; ``worst_case`` is over the row's recipe's white-box attacks, where there are any."""

    heading: Heading
    entries: tuple[Entry, ...]
    worst_case: WorstCase | None = None


@dataclass(frozen=True)
class ReportSection:
    """The part of a report about one data set.

    Attributes:
        dataset: name in the catalogue.
        title: what people call it.
        scale: of the recipes measured; None if nothing was.
        eps: L-infinity budget in pixels of [0, 1], or None.
        c: Carlini and Wagner's constant, or None.
        rows: from top to bottom.
        footnotes: sentences.
        missing: cells that nothing answers.
        command: fills them; "" if there are none, or none whose recipes can be trained.
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
    missing: int
    command: str
    environments: tuple[Environment, ...]
    worst_cases: Mapping[str, WorstCase] = field(default_factory=dict)

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

    @property
    def measured(self) -> int:
        """How many entries have a measured number."""
        return sum(entry.measured is not None for entry in self.entries)


@dataclass(frozen=True)
class ReportTable:
    """A table ready to be rendered.

    Attributes:
        number: the paper's.
        title: what it is about.
        caption: what the numbers are.
        columns: from left to right.
        sections: one a data set.
        is_matrix: rows are sources and columns targets.
        targets_in_rows: a row is a recipe, else a column is one.
        intervals: readers want to see each measured number's interval.
    """

    number: int
    title: str
    caption: str
    columns: tuple[Heading, ...]
    sections: tuple[ReportSection, ...]
    is_matrix: bool
    targets_in_rows: bool
    intervals: bool = False

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

    def remark_number(self, entry: Entry) -> int | None:
        """The number of an entry's remark, or None if it has none."""
        return self.remarks.index(entry.remark) + 1 if entry.remark else None
