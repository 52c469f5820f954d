"""What goes on the page: all tables with a measurement, and the figures they allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from robustbench_pcl.paper.table import published, published_numbers
from robustbench_pcl.report.evidence import Evidence
from robustbench_pcl.report.figures.paper_figures import paper_figures
from robustbench_pcl.report.figures.table_figures import (
    attack_bars,
    training_curves,
    transfer_heat_map,
)
from robustbench_pcl.report.formatting import listed, percent
from robustbench_pcl.report.page.document import Figure, render_page
from robustbench_pcl.report.tables.described import TITLES, described_table
from robustbench_pcl.report.tables.model import ReportTable
from robustbench_pcl.report.tables.table import report_table
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.store.embeddings import Embedding

MAIN_TABLES = (3, 9)
"""Whose recipes' training is shown where not all can be."""
MOST_CURVES = 8
"""Of one figure; the names of more take more room than the curves."""


def full_page(
    evidence: Evidence,
    embeddings: Sequence[Embedding],
    numbers: Sequence[int] = (),
    datasets: Sequence[str] = (),
    *,
    scale: Scale | None = None,
    seed: int | None = None,
    intervals: bool = False,
) -> str:
    """The page for what was measured, with the figures the evidence allows.

    Args:
        evidence: all records there are.
        embeddings: all there are, oldest first.
        numbers: of the paper's tables; by default all with a measurement, or all if none has, and
            the paper's figures with them.
        datasets: sections to show; by default all with a measurement.
        scale: of the recipes; by default the most faithful one measured.
        seed: of the recipes' training; any by default.
        intervals: show each measured number's interval.

    Raises:
        UserError: there is no such table or data set, or a file is damaged.
    """
    tables = [
        replace(report_table(number, evidence, datasets, scale, seed), intervals=intervals)
        for number in numbers or published_numbers()
        if number not in TITLES
    ]
    figures: list[Figure] = []
    if not numbers:
        tables = [t for t in tables if any(s.measured for s in t.sections)] or tables
        figures = paper_figures(evidence, embeddings, datasets, scale=scale, seed=seed)
    return render_page(
        tables,
        [*_table_figures(tables), *figures, *_training_figures(tables, evidence)],
        [described_table(number) for number in numbers or TITLES if number in TITLES],
    )


def _table_figures(tables: Sequence[ReportTable]) -> Iterator[Figure]:
    for table in tables:
        for section in table.sections:
            if section.measured and table.number == 3:
                yield Figure(
                    f"White-box attacks on {section.title}",
                    attack_bars(section),
                    f"Accuracy with {percent('95')} intervals, {section.heading}.",
                )
            if section.measured and table.is_matrix:
                yield Figure(
                    f"Transfer on {section.title}",
                    transfer_heat_map(section),
                    f"Accuracy on PGD images, {section.heading}. Framed: white-box.",
                )


def _training_figures(tables: Sequence[ReportTable], evidence: Evidence) -> Iterator[Figure]:
    shown = {
        (section.dataset, section.scale): section.title
        for table in tables
        for section in table.sections
    }
    for (dataset, scale), title in shown.items():
        newest = {
            record.recipe.name: record
            for record in sorted(evidence.trainings, key=lambda record: record.created)
            if (record.recipe.dataset, record.recipe.scale) == (dataset, scale) and record.history
        }
        caption = f"Cross-entropy and accuracy on the training images, {scale} scale."
        if len(newest) > MOST_CURVES:
            main = {
                position.cell.target
                for number in MAIN_TABLES
                for position in published(number).positions(dataset)
            }
            newest = {name: record for name, record in newest.items() if name in main}
            tables_named = listed(map(str, MAIN_TABLES))
            caption = f"{caption} Only the recipes of Tables {tables_named}."
        if newest:
            yield Figure(f"Training on {title}", training_curves(list(newest.values())), caption)
