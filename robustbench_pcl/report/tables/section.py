"""The part of a table about one data set, put together from the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.paper.table import PaperTable, Position
from robustbench_pcl.report.answer import Answer
from robustbench_pcl.report.evidence import Evidence
from robustbench_pcl.report.tables import footnotes
from robustbench_pcl.report.tables.best import with_best
from robustbench_pcl.report.tables.claims import largest_eps
from robustbench_pcl.report.tables.model import Entry, ReportSection, Row
from robustbench_pcl.report.tables.worst_case import WorstCase, worst_case
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.names import Scale


@dataclass(frozen=True)
class Assembly:
    """What all sections of one report share.

    Attributes:
        table: ``paper`` with further recipes.
        paper: a table of the paper.
        evidence: all records there are.
        scale: of the recipes; for each data set the most faithful one measured if None.
        seed: of the recipes' training; any if None.
    """

    table: PaperTable
    paper: PaperTable
    evidence: Evidence
    scale: Scale | None
    seed: int | None

    def section(self, dataset: str) -> ReportSection:
        """The section about a data set.

        Raises:
            UserError: there is no data set of that name.
        """
        positions = self.table.positions(dataset)
        cells = [position.cell for position in positions]
        scales = self.evidence.scales(cells, self.seed)
        scale = self.scale or next(iter(scales), None)
        answers = self.evidence.consistent_answers(cells, scale, self.seed)
        found = [answer for answer in answers if answer]
        cases = self._worst_cases(cells, answers)
        printed = self.table.section(dataset)
        attacks = {cell.attack.name for cell in cells if cell.attack}
        missing = self._missing(dataset, positions, answers)
        environments = {
            answer.environment.model_dump_json(): answer.environment for answer in found
        }
        return ReportSection(
            dataset=dataset,
            title=dataset_spec(dataset).title,
            scale=scale if found else None,
            eps=printed.eps if attacks else None,
            c=printed.c if "cw" in attacks else None,
            rows=tuple(self._rows(positions, answers, cases)),
            footnotes=(
                *self._unpublished(dataset),
                *_evidence_footnotes(positions, answers, scales),
                *footnotes.worst_case_note(cases),
                *footnotes.independent_notes(dataset, cells),
                *printed.notes,
            ),
            missing=missing,
            command=self._command(dataset, scale) if missing else "",
            environments=tuple(environments.values()),
            worst_cases=cases,
        )

    def _worst_cases(
        self, cells: Sequence[Cell], answers: Sequence[Answer | None]
    ) -> dict[str, WorstCase]:
        eps = largest_eps(cells)
        if eps is None:
            return {}
        models = {
            cell.target: answer.model for cell, answer in zip(cells, answers, strict=True) if answer
        }
        cases = {
            target: worst_case(self.evidence.measurements, model, eps)
            for target, model in models.items()
        }
        return {target: case for target, case in cases.items() if case}

    def _rows(
        self,
        positions: Sequence[Position],
        answers: Sequence[Answer | None],
        cases: Mapping[str, WorstCase],
    ) -> list[Row]:
        width = len(self.table.columns)
        entries = list(map(_entry, positions, answers))
        lines = [entries[start : start + width] for start in range(0, len(entries), width)]
        if self.table.targets_in_rows:
            columns = [with_best(column) for column in zip(*lines, strict=True)]
            lines = [list(line) for line in zip(*columns, strict=True)]
        else:
            lines = [with_best(line) for line in lines]
        headings = [position.row for position in positions[::width]]
        return [
            Row(heading, tuple(line), cases.get(heading.target or ""))
            for heading, line in zip(headings, lines, strict=True)
        ]

    def _unpublished(self, dataset: str) -> Iterator[str]:
        if dataset not in self.paper.datasets:
            title = dataset_spec(dataset).title
            yield f"The paper's Table {self.paper.number} has no numbers for {title}."

    def _missing(
        self, dataset: str, positions: Sequence[Position], answers: Sequence[Answer | None]
    ) -> int:
        """How many of the paper's own positions nothing answers."""
        rows = {row.name for row in self.paper.rows_for(dataset)}
        columns = {column.name for column in self.paper.columns}
        return sum(
            answer is None and position.row.name in rows and position.column.name in columns
            for position, answer in zip(positions, answers, strict=True)
        )

    def _command(self, dataset: str, scale: Scale | None) -> str:
        options = [f" --scale {scale}"] if scale else []
        options += [f" --seed {self.seed}"] if self.seed is not None else []
        return f"pclbench run --table {self.table.number} --dataset {dataset}{''.join(options)}"


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


def _evidence_footnotes(
    positions: Sequence[Position], answers: Sequence[Answer | None], scales: Mapping[Scale, int]
) -> Iterator[str]:
    found = [answer for answer in answers if answer]
    if not found:
        return
    yield from footnotes.recipe_note(h for p in positions for h in (p.row, p.column))
    yield from footnotes.evidence_notes(found)
    yield from footnotes.seconds_note(positions, answers)
    yield from footnotes.adaptive_note(positions)
    yield from footnotes.other_scales_note(found[0].recipe.scale, scales)
