"""A table as text, Markdown, LaTeX, HTML, CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_pcl.configuration import Scale
from robustbench_pcl.errors import unknown_name
from robustbench_pcl.report.described import TITLES, DescribedTable, described_table
from robustbench_pcl.report.entries import Table
from robustbench_pcl.report.markup import filled_template
from robustbench_pcl.report.results import HasPaths, load_evidence, paths_of
from robustbench_pcl.report.table import report_table
from robustbench_pcl.report.text import plain_text

FORMATS = ("text", "md", "latex", "html", "csv", "json")


@dataclass(frozen=True)
class Rendered:
    """A table that prints well in a terminal and in a notebook.

    Attributes:
        table: its sections, rows and entries.
        interval: whether measured numbers have their 95 % intervals beside them.
    """

    table: Table | DescribedTable
    interval: bool = False

    def __str__(self) -> str:
        return render(self.table, "text", interval=self.interval)

    def _repr_html_(self) -> str:
        return render(self.table, "html", interval=self.interval)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per cell: the question, the measured and the published number."""
        return table_frame(self.table)


def table(
    number: int,
    workspace: str | Path | HasPaths = ".",
    *,
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
    interval: bool = False,
) -> Rendered:
    """A table of the paper, what is stored beside what was published.

    Args:
        number: the paper's.
        workspace: a workspace, or the folder that holds ``checkpoints/`` and ``results/``.
        datasets: to show; by default those with a measurement.
        scale: of the recipes; by default the most faithful one measured.
        seed: of the recipes' training; any by default.
        interval: with each measured number's 95 % interval.

    Raises:
        UserError: there is no such table or data set, or a stored file is damaged.
    """
    if number in TITLES:
        return Rendered(described_table(number))
    evidence = load_evidence(paths_of(workspace))
    return Rendered(report_table(number, evidence, datasets, scale, seed), interval)


def render(table: Table | DescribedTable, form: str, *, interval: bool = False) -> str:
    """The table in a format, ending in a newline.

    Args:
        table: what to write.
        form: of :data:`FORMATS`.
        interval: with each measured number's 95 % interval; csv and json always have it.

    Raises:
        UserError: there is no such format.
    """
    match form:
        case "text":
            return plain_text(table, interval=interval)
        case "csv":
            csv: str = table_frame(table).to_csv(index=False, lineterminator="\n")
            return csv
        case "json":
            return json.dumps(_content(table), indent=2, ensure_ascii=False) + "\n"
        case "md" | "latex" | "html":
            return filled_template(table, form, interval=interval)
    raise unknown_name("format", form, FORMATS)


def table_frame(table: Table | DescribedTable) -> pd.DataFrame:
    """The table's cells, one row each; the rows of a table of words are its own."""
    if isinstance(table, DescribedTable):
        return pd.DataFrame(list(table.rows), columns=list(table.columns), dtype=object)
    return pd.DataFrame(list(_cells(table)), dtype=object)


def _cells(table: Table) -> Iterator[dict[str, Any]]:
    """Each cell as a flat record of plain JSON types, row by row."""
    for section in table.sections:
        for row in section.rows:
            for entry in row.entries:
                attack = entry.cell.attack
                low, high = entry.interval or (None, None)
                yield {
                    "table": table.number,
                    "dataset": section.dataset,
                    "scale": section.scale,
                    "row": row.heading.name,
                    "group": entry.column.group,
                    "column": entry.column.label,
                    "quantity": entry.cell.quantity,
                    "target": entry.cell.target,
                    "source": entry.cell.source,
                    "attack": attack and attack.name,
                    "eps": attack and attack.eps,
                    "c": attack and attack.c,
                    "measured": entry.measured,
                    "interval_low": low,
                    "interval_high": high,
                    "n": entry.n,
                    "best": entry.best,
                    "published": entry.published,
                    "difference": entry.difference,
                    "remark": entry.remark,
                }


def _content(table: Table | DescribedTable) -> dict[str, Any]:
    """All of a table as JSON has it."""
    content: dict[str, Any] = {
        "table": table.number,
        "title": table.title,
        "caption": table.caption,
    }
    if isinstance(table, DescribedTable):
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        return {**content, "rows": rows, "footnotes": table.footnotes}
    sections = [
        {
            "dataset": section.dataset,
            "scale": section.scale,
            "footnotes": section.footnotes,
            "worst_cases": {recipe: asdict(case) for recipe, case in section.worst_cases.items()},
            "missing": section.missing,
            "command": section.command,
            "environments": [environment.content() for environment in section.environments],
        }
        for section in table.sections
    ]
    return {**content, "cells": list(_cells(table)), "sections": sections}
