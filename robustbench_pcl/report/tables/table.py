"""Put what was measured beside a table of the paper."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_pcl.data.catalogue import DATASETS
from robustbench_pcl.paper.table import PaperTable, published
from robustbench_pcl.report.evidence import Evidence
from robustbench_pcl.report.tables.matrix import with_measured_recipes
from robustbench_pcl.report.tables.model import ReportSection, ReportTable
from robustbench_pcl.report.tables.section import Assembly
from robustbench_pcl.specs.names import Scale


def report_table(
    number: int,
    evidence: Evidence,
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> ReportTable:
    """Put what was measured beside a table of the paper.

    A recipe's numbers come from one of its checkpoints: the one that answers most of the table's
    cells, the newest if several do.

    Args:
        number: the paper's.
        evidence: all records there are.
        datasets: sections to show; by default the paper's with a measurement and others that are
            half measured, or if there are none all with a measurement, or the paper's.
        scale: of the recipes; by default for each data set the most faithful one measured.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such table or data set.
    """
    paper = published(number)
    table = with_measured_recipes(paper, evidence, datasets)
    assembly = Assembly(table, paper, evidence, scale, seed)
    sections = [assembly.section(name) for name in datasets or datasets_of(paper, evidence)]
    if not datasets:
        sections = _worth_showing(sections, paper.datasets)
    return ReportTable(
        number=table.number,
        title=table.title,
        caption=table.caption,
        columns=table.columns,
        sections=tuple(sections),
        is_matrix=table.is_matrix,
        targets_in_rows=table.targets_in_rows,
    )


def _worth_showing(sections: Sequence[ReportSection], papers: Sequence[str]) -> list[ReportSection]:
    """Other tables' measurements answer some cells on data sets that nobody asked this one for."""
    own = [section for section in sections if section.dataset in papers]
    measured = [section for section in sections if section.measured]
    asked = [s for s in measured if s in own or s.measured >= s.missing]
    return asked or measured or own


def datasets_of(paper: PaperTable, evidence: Evidence) -> list[str]:
    """The data sets the paper has numbers for, and those with records of any kind."""
    recorded = {record.data.dataset for record in evidence.measurements}
    recorded |= {record.recipe.dataset for record in evidence.trainings}
    return [*paper.datasets, *sorted(recorded & set(DATASETS) - set(paper.datasets))]
