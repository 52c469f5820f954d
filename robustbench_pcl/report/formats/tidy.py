"""A table for programs: one record a cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from robustbench_pcl.report.tables.described import DescribedTable
from robustbench_pcl.report.tables.model import Entry, ReportSection, ReportTable, Row


def tidy(table: ReportTable) -> list[dict[str, Any]]:
    """The table's cells, each as a flat record of plain JSON types, row by row."""
    return [
        record
        for section in table.sections
        for row in section.rows
        for record in _records(table, section, row)
    ]


def render_csv(table: ReportTable) -> str:
    """The tidy records as CSV, with a line of column names."""
    import pandas as pd

    text: str = pd.DataFrame(tidy(table), dtype=object).to_csv(index=False, lineterminator="\n")
    return text


def render_json(table: ReportTable) -> str:
    """The tidy records with title, footnotes, worst cases and commands, as JSON."""
    content = {
        "table": table.number,
        "title": table.title,
        "caption": table.caption,
        "cells": tidy(table),
        "sections": [
            {
                "dataset": section.dataset,
                "scale": section.scale,
                "footnotes": section.footnotes,
                "worst_cases": {
                    recipe: asdict(case) for recipe, case in section.worst_cases.items()
                },
                "missing": section.missing,
                "command": section.command,
                "environments": [environment.content() for environment in section.environments],
            }
            for section in table.sections
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def described_csv(table: DescribedTable) -> str:
    """A table of words as CSV, with a line of column names."""
    import pandas as pd

    frame = pd.DataFrame(list(table.rows), columns=list(table.columns), dtype=object)
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


def described_json(table: DescribedTable) -> str:
    """A table of words as JSON: one mapping a row."""
    content = {
        "table": table.number,
        "title": table.title,
        "caption": table.caption,
        "rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows],
        "footnotes": table.footnotes,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _records(table: ReportTable, section: ReportSection, row: Row) -> Iterator[dict[str, Any]]:
    for entry in row.entries:
        yield {
            "table": table.number,
            "dataset": section.dataset,
            "scale": section.scale,
            "row": row.heading.name,
            "group": entry.column.group,
            "column": entry.column.label,
            **_question(entry),
            "measured": entry.measured,
            "interval_low": entry.interval[0] if entry.interval else None,
            "interval_high": entry.interval[1] if entry.interval else None,
            "n": entry.n,
            "best": entry.best,
            "published": entry.published,
            "difference": entry.difference,
            "remark": entry.remark,
        }


def _question(entry: Entry) -> dict[str, Any]:
    attack = entry.cell.attack
    return {
        "quantity": entry.cell.quantity,
        "target": entry.cell.target,
        "source": entry.cell.source,
        "attack": attack.name if attack else None,
        "eps": attack.parameters.get("eps") if attack else None,
        "c": attack.parameters.get("c") if attack else None,
    }
