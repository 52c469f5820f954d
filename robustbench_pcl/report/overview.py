"""How much of each table is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from robustbench_pcl.paper.table import published, published_numbers
from robustbench_pcl.report.evidence import Evidence
from robustbench_pcl.report.table import datasets_of, report_table
from robustbench_pcl.specs.names import Scale


def overview(
    evidence: Evidence,
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[dict[str, Any]]:
    """One record for each table and data set: how many cells are measured, and what to run.

    Args:
        evidence: all records there are.
        datasets: only these; by default the paper's and those with records.
        scale: of the recipes; by default the most faithful one measured.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such data set.
    """
    return [
        {
            "table": number,
            "title": published(number).title,
            "data_set": section.title,
            "scale": section.scale,
            "measured": section.measured,
            "missing": section.missing,
            "measure_with": section.command,
        }
        for number in published_numbers()
        for section in report_table(
            number, evidence, datasets or datasets_of(published(number), evidence), scale, seed
        ).sections
    ]


def overview_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The records of :func:`overview` for a terminal, lines of at most 80 columns."""
    lines = []
    for (number, title), sections in groupby(rows, key=lambda row: (row["table"], row["title"])):
        lines.append(f"Table {number}. {title}")
        for row in sections:
            counts = f"{row['measured']} of {row['measured'] + row['missing']}"
            lines.append(f"  {row['data_set']:<10}{counts:<9} {row['measure_with']}".rstrip())
    return "\n".join([*lines, "", "Show one with: pclbench report --table 3"]) + "\n"
