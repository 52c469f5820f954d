"""A table of the paper with what was measured beside what was published, ready to be rendered."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from robustbench_pcl.configuration import SCALES, Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.environment import Environment
from robustbench_pcl.errors import unknown_name
from robustbench_pcl.paper.tables import (
    Cell,
    Heading,
    PaperTable,
    Position,
    chosen_columns,
    published,
)
from robustbench_pcl.report.entries import Entry, Row, answered, with_best
from robustbench_pcl.report.formatting import show_budget
from robustbench_pcl.report.notes import footnotes
from robustbench_pcl.report.results import Answers, Evidence
from robustbench_pcl.report.summaries import summary_headings, with_summaries
from robustbench_pcl.report.worst_case import WorstCase, worst_cases


@dataclass(frozen=True)
class Asked:
    """What of a table was asked for; empty for what is usual.

    Attributes:
        datasets: names of data sets.
        scale: of the recipes.
        seeds: of their training.
        models: further ones than the table's own.
        columns: some of the table's.
    """

    datasets: tuple[str, ...] = ()
    scale: Scale | None = None
    seeds: tuple[int, ...] = ()
    models: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def options(self) -> str:
        """What a command says to ask for the same, each with a blank before it."""
        said = [
            *(f"--dataset {name}" for name in self.datasets),
            *(f"--scale {scale}" for scale in (self.scale,) if scale),
            *(f"--seed {seed}" for seed in self.seeds),
            *(f"--model {shlex.quote(name)}" for name in self.models),
            *(f"--columns {shlex.quote(name)}" for name in self.columns),
        ]
        return "".join(f" {option}" for option in said)


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
        measured: how many of the paper's cells are measured, for each seed.
        missing: how many are not.
        commands: measure those.
        environments: where the numbers were made.
        worst_cases: of each recipe and seed, within the largest budget that the section asks for.
    """

    dataset: str
    title: str
    heading: str
    scale: Scale | None
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    measured: int
    missing: int
    commands: tuple[str, ...]
    environments: tuple[Environment, ...]
    worst_cases: tuple[WorstCase, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, row by row."""
        return tuple(entry for row in self.rows for entry in row.entries)

    @property
    def command(self) -> str:
        """Measures all that is missing; "" if nothing is."""
        return " && ".join(self.commands)


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
        seeds: that means are over; empty for numbers of one training each.
        commands: fill the missing cells.
        remarks: on published numbers, in the order of their numbering from 1.
        asked: what of the table was asked for.
    """

    number: int
    title: str
    caption: str
    columns: tuple[Heading, ...]
    sections: tuple[Section, ...]
    is_matrix: bool
    has_published: bool
    seeds: tuple[int, ...]
    commands: tuple[str, ...]
    remarks: tuple[str, ...]
    asked: Asked = Asked()

    @property
    def has_verdicts(self) -> bool:
        """Whether the code of a verdict stands beside some number."""
        return any(entry.verdict for section in self.sections for entry in section.entries)

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
    seeds: Sequence[int] = (),
    *,
    models: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Table:
    """Put what was measured beside a table of the paper.

    A recipe's numbers come from one of its checkpoints: the one that answers most of the table's
    cells, the newest if several do; with several seeds from one for each.

    Args:
        number: the paper's.
        evidence: all that is stored.
        datasets: sections to show; by default the paper's with a measurement and others that are
            half measured, or if there are none all with a measurement, or the paper's.
        scale: of the recipes; by default for each data set the most faithful one measured.
        seeds: of the recipes' training; any by default. Of several the mean is shown.
        models: further ones, recipes or models from elsewhere, each of its own scale.
        columns: some of the columns, by their headings, groups or recipes: "White-box PGD", "PGD",
            "White-box" or "ours-pgd"; by default all. The numbers are those of the whole table.

    Raises:
        UserError: there is no such table, data set or column, or nothing is stored of a model.
    """
    paper, seeds = published(number), tuple(dict.fromkeys(seeds))
    asked = Asked(tuple(datasets), scale, seeds, tuple(models), tuple(columns))
    stored = {target for _, target, _ in evidence.records}
    for name in models:
        if name not in stored:
            raise unknown_name("stored model", name, stored)
    names = datasets or datasets_of(paper, evidence)
    table = _with_measured_recipes(paper, evidence, names) if paper.is_matrix else paper
    table = table.extended([name for name in dict.fromkeys(models) if name not in table.recipes])
    possible = [*table.columns, *summary_headings(table)]
    kept = chosen_columns(possible, columns)
    sections = [
        _section(table, paper, evidence, name, scale=scale, seeds=seeds, kept=kept)
        for name in names
    ]
    if not datasets:
        # Other tables' measurements answer some cells on data sets that nobody asked this one for.
        own = [section for section in sections if section.dataset in paper.datasets]
        measured = [section for section in sections if section.scale]
        wanted = [
            section
            for section in measured
            if section in own
            or section.measured >= section.missing
            or any(entry.seeds and entry.cell.target in models for entry in section.entries)
        ]
        sections = wanted or measured or own
    cases = [section.worst_cases for section in sections]
    headings, rows = with_summaries(table, [section.rows for section in sections], cases)
    kept = chosen_columns(headings, columns)
    sections = [
        replace(each, rows=tuple(row.only(kept) for row in lines))
        for each, lines in zip(sections, rows, strict=True)
    ]
    entries = [entry for section in sections for entry in section.entries]
    return Table(
        number=number,
        title=table.title,
        caption=table.caption,
        columns=tuple(kept),
        sections=tuple(sections),
        is_matrix=table.is_matrix,
        has_published=any(entry.published is not None for entry in entries),
        seeds=seeds if len(seeds) > 1 else (),
        commands=tuple(command for section in sections for command in section.commands),
        remarks=tuple(dict.fromkeys(entry.remark for entry in entries if entry.remark)),
        asked=asked,
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
    seeds: Sequence[int],
    kept: Sequence[Heading],
) -> Section:
    """The part about a data set of ``table``, which is ``paper`` with further recipes.

    Its numbers are all there, its notes and counts are about the columns that are kept.
    """
    positions = table.positions(dataset)
    cells = [position.cell for position in positions]
    own = {position.cell for position in paper.positions(dataset)}
    further = [name for name in table.recipes if name not in paper.recipes]
    answers = _answers(evidence, cells, further, scale, seeds)
    shown = next((each.scale for each in answers if each.scale), None)
    cases = [case for each in answers for case in worst_cases(evidence, cells, each)]
    found = [record for each in answers for record in each.records if record is not None]
    if not any(each in kept for each in summary_headings(table)):
        about, known, cases = _only(kept, positions, answers, cases)
    else:
        about, known = positions, answers
    asked = [position.cell for position in about if position.cell in own]
    missing = [
        sum(
            record is None and position.cell in own
            for position, record in zip(about, each.records, strict=True)
        )
        for each in known
    ]
    command = f"pclbench run --table {table.number} --dataset {dataset}"
    command += f" --scale {scale or shown}" if scale or shown else ""
    of_seeds = [f" --seed {seed}" for seed in seeds] or [""]
    title, printed = dataset_spec(dataset).title, table.section(dataset)
    attacks = {cell.attack.name for cell in cells if cell.attack}
    budget = show_budget(printed.eps if attacks else None, printed.c if "cw" in attacks else None)
    size = f"{shown} scale" if found else "not measured yet"
    notes = footnotes(paper, about, evidence, known, cases=cases, command=command)
    environments = (
        Environment(**{name: getattr(record, name) for name in Environment.model_fields})
        for record in found
    )
    return Section(
        dataset=dataset,
        title=title,
        heading=f"{title}{f' ({budget})' if budget else ''}, {size}",
        scale=shown if found else None,
        rows=_rows(table, positions, answers),
        footnotes=tuple(notes),
        measured=len(asked) * len(answers) - sum(missing),
        missing=sum(missing),
        commands=tuple(
            command + seed for seed, count in zip(of_seeds, missing, strict=True) if count
        ),
        environments=tuple(dict.fromkeys(environments)),
        worst_cases=tuple(cases),
    )


def _only(
    kept: Sequence[Heading],
    positions: Sequence[Position],
    answers: Sequence[Answers],
    cases: Sequence[WorstCase],
) -> tuple[list[Position], list[Answers], list[WorstCase]]:
    """What is about the columns that are kept; the worst cases where those are recipes."""
    places = [place for place, each in enumerate(positions) if each.column in kept]
    about = [positions[place] for place in places]
    known = [
        each._replace(records=tuple(each.records[place] for place in places)) for each in answers
    ]
    targets = {position.column.target for position in about}
    return about, known, [case for case in cases if case.target in targets]


def _answers(
    evidence: Evidence,
    cells: Sequence[Cell],
    further: Sequence[str],
    scale: Scale | None,
    seeds: Sequence[int],
) -> list[Answers]:
    """Answers to the cells, one for each seed, all of one scale.

    Only a further recipe that is not measured at that scale is shown at its own.
    """
    paper = [cell for cell in cells if cell.target not in further]
    choices: Sequence[int | None] = seeds or [None]
    scales = {evidence.answers(paper, scale, seed).scale for seed in choices}
    shown = scale or next((size for size in SCALES if size in scales), None)
    found = []
    for seed in choices:
        answers = evidence.answers(cells, shown, seed)
        records = dict(zip(cells, answers.records, strict=True))
        for name in further:
            asked = [cell for cell in cells if cell.target == name]
            if scale is None and all(records[cell] is None for cell in asked):
                records |= zip(asked, evidence.answers(asked, None, seed).records, strict=True)
        found.append(answers._replace(records=tuple(records[cell] for cell in cells)))
    return found


def _rows(
    table: PaperTable, positions: Sequence[Position], answers: Sequence[Answers]
) -> tuple[Row, ...]:
    """The entries in their rows, the best of the recipes marked."""
    entries = []
    for position, records in zip(
        positions, zip(*(each.records for each in answers), strict=True), strict=True
    ):
        entry = Entry(
            position.column, position.cell, published=position.published, remark=position.remark
        )
        entries.append(answered(entry, [record for record in records if record is not None]))
    width = len(table.columns)
    lines = [entries[start : start + width] for start in range(0, len(entries), width)]
    if table.targets_in_rows:
        columns = [with_best(column) for column in zip(*lines, strict=True)]
        lines = [list(line) for line in zip(*columns, strict=True)]
    else:
        lines = [with_best(line) for line in lines]
    headings = [position.row for position in positions[::width]]
    return tuple(Row(heading, tuple(line)) for heading, line in zip(headings, lines, strict=True))
