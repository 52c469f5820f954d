"""Put what was measured beside a table of the paper."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from robustbench_pcl.data.catalogue import DATASETS, dataset_spec
from robustbench_pcl.paper.table import PaperTable, Position, published
from robustbench_pcl.recipes.named import RECIPES
from robustbench_pcl.report import footnotes
from robustbench_pcl.report.evidence import Answer, Evidence
from robustbench_pcl.report.matrix import with_measured_recipes
from robustbench_pcl.report.model import Entry, ReportSection, ReportTable, Row
from robustbench_pcl.report.worst_case import worst_case
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.names import Scale


def report_table(
    number: int,
    evidence: Evidence,
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> ReportTable:
    """Put what was measured beside a table of the paper.

    A row's numbers come from one checkpoint of its recipe: the one that answers most of the
    table's cells, the newest if several do.

    Args:
        number: the paper's.
        evidence: all records there are.
        datasets: sections to show; by default all with a measurement, or the paper's if there is
            none at all.
        scale: of the recipes; by default for each data set the most faithful one measured.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such table or data set.
    """
    paper = published(number)
    table = with_measured_recipes(paper, evidence, datasets)
    assembly = _Assembly(table, paper, evidence, scale, seed)
    sections = [assembly.section(name) for name in datasets or datasets_of(paper, evidence)]
    if not datasets:
        sections = [section for section in sections if section.measured] or [
            section for section in sections if section.dataset in paper.datasets
        ]
    return ReportTable(
        number=table.number,
        title=table.title,
        caption=table.caption,
        columns=table.columns,
        sections=tuple(sections),
        is_matrix=table.is_matrix,
    )


def datasets_of(paper: PaperTable, evidence: Evidence) -> list[str]:
    """The data sets the paper has numbers for, and those with records of any kind."""
    recorded = {record.data.dataset for record in evidence.measurements}
    recorded |= {record.recipe.dataset for record in evidence.trainings}
    return [*paper.datasets, *sorted(recorded & set(DATASETS) - set(paper.datasets))]


@dataclass(frozen=True)
class _Assembly:
    """What all sections of one report share; ``table`` is ``paper`` with further recipes."""

    table: PaperTable
    paper: PaperTable
    evidence: Evidence
    scale: Scale | None
    seed: int | None

    def section(self, dataset: str) -> ReportSection:
        positions = self.table.positions(dataset)
        cells = [position.cell for position in positions]
        scales = self.evidence.scales(cells, self.seed)
        scale = self.scale or next(iter(scales), None)
        answers = self._answers(cells, scale)
        found = [answer for answer in answers if answer]
        printed = self.table.section(dataset)
        attacks = {cell.attack.name for cell in cells if cell.attack}
        rows = self._rows(list(map(_entry, positions, answers)))
        if self.table.targets_in_rows and printed.eps is not None:
            rows = [self._with_worst_case(row, found, printed.eps) for row in rows]
        missing = self._missing(positions, answers)
        unbuilt = sorted({n for cell in missing for n in _recipes(cell)} - set(RECIPES))
        fillable = any(set(_recipes(cell)) <= set(RECIPES) for cell in missing)
        environments = {
            answer.environment.model_dump_json(): answer.environment for answer in found
        }
        return ReportSection(
            dataset=dataset,
            title=dataset_spec(dataset).title,
            scale=scale if found else None,
            eps=printed.eps if attacks else None,
            c=printed.c if "cw" in attacks else None,
            rows=tuple(rows),
            footnotes=(
                *_evidence_footnotes(found, rows, scales),
                *footnotes.unbuilt_note(unbuilt),
                *footnotes.independent_notes(dataset, cells),
                *printed.notes,
            ),
            missing=len(missing),
            command=self._command(dataset, scale) if fillable else "",
            environments=tuple(environments.values()),
        )

    def _answers(self, cells: Sequence[Cell], scale: Scale | None) -> list[Answer | None]:
        """For every cell the first answer by the checkpoint that stands for the cell's target."""
        found = [self.evidence.answers(cell, scale, self.seed) if scale else [] for cell in cells]
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        newest: dict[str, str] = defaultdict(str)
        for cell, answers in zip(cells, found, strict=True):
            counts[cell.target].update({answer.weights for answer in answers})
            for answer in answers:
                newest[answer.weights] = max(newest[answer.weights], answer.created)
        chosen = {
            target: max(count, key=lambda weights: (count[weights], newest[weights]))
            for target, count in counts.items()
            if count
        }
        return [
            next((answer for answer in answers if answer.weights == chosen[cell.target]), None)
            for cell, answers in zip(cells, found, strict=True)
        ]

    def _rows(self, entries: Sequence[Entry]) -> list[Row]:
        width = len(self.table.columns)
        lines = [entries[start : start + width] for start in range(0, len(entries), width)]
        if self.table.targets_in_rows:
            columns = [_with_best(column) for column in zip(*lines, strict=True)]
            lines = [list(line) for line in zip(*columns, strict=True)]
        else:
            lines = [_with_best(line) for line in lines]
        return [
            Row(heading, tuple(line)) for heading, line in zip(self.table.rows, lines, strict=True)
        ]

    def _with_worst_case(self, row: Row, found: Sequence[Answer], eps: float) -> Row:
        for answer in found:
            if answer.recipe.name == row.heading.target:
                case = worst_case(self.evidence.measurements, answer.weights, eps)
                return replace(row, worst_case=case)
        return row

    def _missing(
        self, positions: Sequence[Position], answers: Sequence[Answer | None]
    ) -> list[Cell]:
        """The cells at the paper's own positions that nothing answers."""
        rows = {row.name for row in self.paper.rows}
        columns = {column.name for column in self.paper.columns}
        return [
            position.cell
            for position, answer in zip(positions, answers, strict=True)
            if answer is None and position.row.name in rows and position.column.name in columns
        ]

    def _command(self, dataset: str, scale: Scale | None) -> str:
        options = [f" --scale {scale}"] if scale else []
        options += [f" --seed {self.seed}"] if self.seed is not None else []
        return f"pclbench run --table {self.table.number} --dataset {dataset}{''.join(options)}"


def _recipes(cell: Cell) -> tuple[str, ...]:
    return (cell.target, cell.source) if cell.source else (cell.target,)


def _entry(position: Position, answer: Answer | None) -> Entry:
    return Entry(
        column=position.column,
        cell=position.cell,
        measured=answer.value if answer else None,
        published=position.published,
        n=answer.n if answer else None,
        interval=answer.interval if answer else None,
        remark=position.remark,
    )


def _with_best(rivals: Sequence[Entry]) -> list[Entry]:
    """Mark the best of the recipes that were asked the same, unless all are equal."""
    values = {entry.measured for entry in rivals if entry.measured is not None}
    if len(values) < 2:
        return list(rivals)
    best = max(values) if rivals[0].cell.quantity == "accuracy" else min(values)
    return [replace(entry, best=entry.measured == best) for entry in rivals]


def _evidence_footnotes(
    found: Sequence[Answer], rows: Sequence[Row], scales: Mapping[Scale, int]
) -> Iterator[str]:
    if not found:
        return
    yield from footnotes.evidence_notes(found)
    yield from footnotes.other_scales_note(found[0].recipe.scale, scales)
    yield from footnotes.worst_case_note(
        {row.heading.label: row.worst_case for row in rows if row.worst_case}
    )
