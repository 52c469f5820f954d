"""A transfer matrix grows with what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_pcl.paper.table import PaperTable
from robustbench_pcl.report.evidence import Evidence


def with_measured_recipes(
    table: PaperTable, evidence: Evidence, datasets: Sequence[str] = ()
) -> PaperTable:
    """A matrix with the recipes that were both source and target of a transfer attack.

    A table that is not a matrix of sources and targets is returned as it is.

    Args:
        table: any table of the paper.
        evidence: all records there are.
        datasets: transfers on these count; on any if empty.
    """
    if not table.is_matrix:
        return table
    attacks = {row.attack.name for row in table.rows if row.attack}
    pairs = [
        (record.source.recipe.name, record.target.recipe.name)
        for record in evidence.measurements
        if record.source
        and record.source.key != record.target.key
        and record.attack
        and record.attack.name in attacks
        and (not datasets or record.data.dataset in datasets)
    ]
    both = {source for source, _ in pairs} & {target for _, target in pairs}
    return table.extended(sorted(both - {row.source for row in table.rows}))
