"""A table of the paper with what was measured beside what was published, ready to be rendered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from robustbench_pcl.configuration import SCALES, Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.environment import Environment
from robustbench_pcl.paper.tables import (
    AttackRequest,
    Cell,
    Heading,
    PaperTable,
    Position,
    published,
)
from robustbench_pcl.report.formatting import DIGITS, show_budget
from robustbench_pcl.report.notes import footnotes
from robustbench_pcl.report.results import Answers, Evidence
from robustbench_pcl.report.worst_case import WorstCase, largest_eps, worst_cases

WORST_CASE = "worst-case"
"""The attack that stands for the strongest of all stored ones, image by image."""
HEADING = Heading(label="Worst case")
CLAIM = "The lowest number that the table prints for an L-infinity white-box attack."


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
        heading: title, budgets and scale: "CIFAR-10 (eps = 0.03, c = 0.1), quick scale".
        scale: of the recipes measured; None if nothing was.
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
    heading: str
    scale: Scale | None
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    measured: int
    missing: int
    command: str
    environments: tuple[Environment, ...]
    worst_cases: Mapping[str, WorstCase]

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
        has_published: the paper has a number for some entry.
        commands: fill the missing cells.
        remarks: on published numbers, in the order of their numbering from 1.
    """

    number: int
    title: str
    caption: str
    columns: tuple[Heading, ...]
    sections: tuple[Section, ...]
    is_matrix: bool
    has_published: bool
    commands: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def column_groups(self) -> tuple[tuple[str, int], ...]:
        """The headings over the columns from left to right, each with how many it spans."""
        groups = groupby(self.columns, key=lambda column: column.group)
        return tuple((name, len(list(columns))) for name, columns in groups)


def report_table(
    number: int,
    evidence: Evidence,
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> Table:
    """Put what was measured beside a table of the paper.

    A recipe's numbers come from one of its checkpoints: the one that answers most of the table's
    cells, the newest if several do.

    Args:
        number: the paper's.
        evidence: all that is stored.
        datasets: sections to show; by default the paper's with a measurement and others that are
            half measured, or if there are none all with a measurement, or the paper's.
        scale: of the recipes; by default for each data set the most faithful one measured.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such table or data set.
    """
    paper = published(number)
    names = datasets or datasets_of(paper, evidence)
    table = _with_measured_recipes(paper, evidence, names) if paper.is_matrix else paper
    sections = [_section(table, paper, evidence, name, scale=scale, seed=seed) for name in names]
    if not datasets:
        # Other tables' measurements answer some cells on data sets that nobody asked this one for.
        own = [section for section in sections if section.dataset in paper.datasets]
        measured = [section for section in sections if section.measured]
        asked = [each for each in measured if each in own or each.measured >= each.missing]
        sections = asked or measured or own
    columns = table.columns
    if any(section.worst_cases for section in sections):
        columns, sections = _with_worst_cases(table, sections)
    entries = [entry for section in sections for entry in section.entries]
    return Table(
        number=number,
        title=table.title,
        caption=table.caption,
        columns=columns,
        sections=tuple(sections),
        is_matrix=table.is_matrix,
        has_published=any(entry.published is not None for entry in entries),
        commands=tuple(section.command for section in sections if section.command),
        remarks=tuple(dict.fromkeys(entry.remark for entry in entries if entry.remark)),
    )


def datasets_of(paper: PaperTable, evidence: Evidence) -> list[str]:
    """The data sets the paper has numbers for, and those with records of any kind."""
    recorded = {dataset for dataset, _, _ in evidence.records}
    return [*paper.datasets, *sorted(recorded & set(DATASETS) - set(paper.datasets))]


def _with_measured_recipes(
    table: PaperTable, evidence: Evidence, datasets: Sequence[str]
) -> PaperTable:
    """A matrix with the further recipes that were both source and target of its attack."""
    wanted = {
        (name, scale): attack.dump()
        for name in datasets
        for scale in SCALES
        if (attack := table.positions(name)[0].cell.attack_for(scale))
    }
    pairs = [
        (record.source, record.target)
        for (name, _, scale), records in evidence.records.items()
        for record in records
        if getattr(record, "source", None)
        and not record.white_box
        and record.parameters == wanted.get((name, scale))
    ]
    both = {source for source, _ in pairs} & {target for _, target in pairs}
    return table.extended(sorted(both - {row.source for row in table.rows}))


def _section(
    table: PaperTable,
    paper: PaperTable,
    evidence: Evidence,
    dataset: str,
    *,
    scale: Scale | None,
    seed: int | None,
) -> Section:
    """The part about a data set of ``table``, which is ``paper`` with further recipes."""
    positions = table.positions(dataset)
    cells = [position.cell for position in positions]
    answers = evidence.answers(cells, scale, seed)
    found = [record for record in answers.records if record is not None]
    cases = worst_cases(evidence, cells, answers)
    own = {position.cell for position in paper.positions(dataset)}
    missing = sum(
        record is None and cell in own for cell, record in zip(cells, answers.records, strict=True)
    )
    command = f"pclbench run --table {table.number} --dataset {dataset}"
    command += f" --scale {scale or answers.scale}" if scale or answers.scale else ""
    command += f" --seed {seed}" if seed is not None else ""
    title, printed = dataset_spec(dataset).title, table.section(dataset)
    attacks = {cell.attack.name for cell in cells if cell.attack}
    budget = show_budget(printed.eps if attacks else None, printed.c if "cw" in attacks else None)
    size = f"{answers.scale} scale" if found else "not measured yet"
    environments = (
        Environment(**{name: getattr(record, name) for name in Environment.model_fields})
        for record in found
    )
    return Section(
        dataset=dataset,
        title=title,
        heading=f"{title}{f' ({budget})' if budget else ''}, {size}",
        scale=answers.scale if found else None,
        rows=_rows(table, positions, answers),
        footnotes=tuple(footnotes(paper, positions, evidence, answers, cases)),
        measured=len(found),
        missing=missing,
        command=command if missing else "",
        environments=tuple(dict.fromkeys(environments)),
        worst_cases=cases,
    )


def _rows(table: PaperTable, positions: Sequence[Position], answers: Answers) -> tuple[Row, ...]:
    """The entries in their rows, the best of the recipes marked."""
    entries = []
    for position, record in zip(positions, answers.records, strict=True):
        cell = position.cell
        entry = Entry(
            column=position.column,
            cell=cell,
            measured=None if record is None else getattr(record, cell.quantity),
            published=position.published,
            remark=position.remark,
        )
        if record is not None and cell.quantity == "accuracy":
            entry = replace(entry, n=record.n, interval=(record.low, record.high))
        entries.append(entry)
    width = len(table.columns)
    lines = [entries[start : start + width] for start in range(0, len(entries), width)]
    if table.targets_in_rows:
        columns = [_with_best(column) for column in zip(*lines, strict=True)]
        lines = [list(line) for line in zip(*columns, strict=True)]
    else:
        lines = [_with_best(line) for line in lines]
    headings = [position.row for position in positions[::width]]
    return tuple(Row(heading, tuple(line)) for heading, line in zip(headings, lines, strict=True))


def _with_best(compared: Sequence[Entry]) -> list[Entry]:
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


def _with_worst_cases(
    table: PaperTable, sections: Sequence[Section]
) -> tuple[tuple[Heading, ...], list[Section]]:
    """Columns and sections with the worst cases as entries of their own, some of which are known.

    They stand behind the white-box columns where recipes are in rows, else beneath the rows.
    """
    columns, place, heading = table.columns, 0, HEADING
    if table.targets_in_rows:
        first = sections[0].rows[0].entries
        place = 1 + max(at for at, entry in enumerate(first) if entry.cell.white_box)
        heading = Heading(label=HEADING.label, group=columns[place - 1].group)
        columns = (*columns[:place], heading, *columns[place:])
    wider = []
    for section in sections:
        rows, lines = section.rows, [row.entries for row in section.rows]
        if table.targets_in_rows:
            rows = tuple(
                Row(row.heading, (*row.entries[:place], entry, *row.entries[place:]))
                for row, entry in zip(rows, _worst(section, lines, heading), strict=True)
            )
        elif section.worst_cases:
            rows = (*rows, Row(heading, tuple(_worst(section, zip(*lines, strict=True)))))
        wider.append(replace(section, rows=rows))
    return columns, wider


def _worst(
    section: Section, asked: Iterable[Sequence[Entry]], column: Heading | None = None
) -> list[Entry]:
    """Each recipe's worst case beside the least that it is claimed to withstand.

    The best is marked if all recipes withstood the same attacks.

    Args:
        section: what the entries join.
        asked: for each recipe what the section asks about it.
        column: the heading above the worst cases; by default that above the recipe's entries.
    """
    attack = AttackRequest(name=WORST_CASE, eps=largest_eps(each.cell for each in section.entries))
    worst = []
    for entries in asked:
        cell = entries[0].cell
        case = section.worst_cases.get(cell.target)
        claims = [
            entry.published
            for entry in entries
            if entry.published is not None and largest_eps([entry.cell])
        ]
        worst.append(
            Entry(
                column=column or entries[0].column,
                cell=Cell(
                    dataset=cell.dataset, target=cell.target, source=cell.target, attack=attack
                ),
                measured=case.accuracy if case else None,
                published=min(claims, default=None),
                n=case.n if case else None,
                interval=case.interval if case else None,
                remark=CLAIM if claims else "",
            )
        )
    attacks = {case.attacks for case in section.worst_cases.values()}
    return _with_best(worst) if len(attacks) == 1 else worst
