"""A table of the paper with what was measured beside what was published, ready to be rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robustbench_pcl.configuration import SCALES, Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.environment import Environment
from robustbench_pcl.paper.tables import PaperTable, Position, published
from robustbench_pcl.report.entries import Entry, Row, Section, Table, with_best
from robustbench_pcl.report.notes import footnotes
from robustbench_pcl.report.results import Answers, Evidence, Record
from robustbench_pcl.report.worst_case import with_worst_cases, worst_cases


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
    table = _with_measured_recipes(paper, evidence, datasets)
    sections = [
        _section(table, paper, evidence, name, scale=scale, seed=seed)
        for name in datasets or datasets_of(paper, evidence)
    ]
    if not datasets:
        # Other tables' measurements answer some cells on data sets that nobody asked this one for.
        own = [section for section in sections if section.dataset in paper.datasets]
        measured = [section for section in sections if section.measured]
        asked = [each for each in measured if each in own or each.measured >= each.missing]
        sections = asked or measured or own
    return with_worst_cases(
        Table(
            number=table.number,
            title=table.title,
            caption=table.caption,
            columns=table.columns,
            sections=tuple(sections),
            is_matrix=table.is_matrix,
            targets_in_rows=table.targets_in_rows,
        )
    )


def datasets_of(paper: PaperTable, evidence: Evidence) -> list[str]:
    """The data sets the paper has numbers for, and those with records of any kind."""
    recorded = {dataset for dataset, _, _ in evidence.records}
    return [*paper.datasets, *sorted(recorded & set(DATASETS) - set(paper.datasets))]


def _with_measured_recipes(
    table: PaperTable, evidence: Evidence, datasets: Sequence[str]
) -> PaperTable:
    """A matrix with the recipes that were both source and target of its attack; others as are."""
    if not table.is_matrix:
        return table
    wanted = {
        (name, scale): attack.dump()
        for name in datasets or datasets_of(table, evidence)
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
    attacks = {cell.attack.name for cell in cells if cell.attack}
    own = {(row.name, column.name) for row in paper.rows_for(dataset) for column in paper.columns}
    missing = sum(
        record is None and (position.row.name, position.column.name) in own
        for position, record in zip(positions, answers.records, strict=True)
    )
    command = f"pclbench run --table {table.number} --dataset {dataset}"
    command += f" --scale {scale or answers.scale}" if scale or answers.scale else ""
    command += f" --seed {seed}" if seed is not None else ""
    printed = table.section(dataset)
    return Section(
        dataset=dataset,
        title=dataset_spec(dataset).title,
        scale=answers.scale if found else None,
        eps=printed.eps if attacks else None,
        c=printed.c if "cw" in attacks else None,
        rows=_rows(table, positions, answers),
        footnotes=tuple(footnotes(paper, positions, evidence, answers, cases)),
        measured=len(found),
        missing=missing,
        command=command if missing else "",
        environments=_environments(found),
        worst_cases=cases,
    )


def _environments(records: Sequence[Record]) -> tuple[Environment, ...]:
    found = (
        Environment(**{name: getattr(record, name) for name in Environment.model_fields})
        for record in records
    )
    return tuple(dict.fromkeys(found))


def _rows(table: PaperTable, positions: Sequence[Position], answers: Answers) -> tuple[Row, ...]:
    entries = list(map(_entry, positions, answers.records))
    width = len(table.columns)
    lines = [entries[start : start + width] for start in range(0, len(entries), width)]
    if table.targets_in_rows:
        columns = [with_best(column) for column in zip(*lines, strict=True)]
        lines = [list(line) for line in zip(*columns, strict=True)]
    else:
        lines = [with_best(line) for line in lines]
    headings = [position.row for position in positions[::width]]
    return tuple(Row(heading, tuple(line)) for heading, line in zip(headings, lines, strict=True))


def _entry(position: Position, record: Record | None) -> Entry:
    empty = Entry(
        column=position.column,
        cell=position.cell,
        measured=None,
        published=position.published,
        remark=position.remark,
    )
    if record is None:
        return empty
    measured = getattr(record, position.cell.quantity)
    if position.cell.quantity != "accuracy":
        return replace(empty, measured=measured)
    return replace(empty, measured=measured, n=record.n, interval=(record.low, record.high))
