"""Which of the recipes compared did best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robustbench_pcl.report.tables.model import Entry


def with_best(rivals: Sequence[Entry]) -> list[Entry]:
    """Mark the best of the recipes that were asked the same, unless all are equal."""
    values = {entry.measured for entry in rivals if entry.measured is not None}
    if len(values) < 2:
        return list(rivals)
    best = max(values) if rivals[0].cell.quantity == "accuracy" else min(values)
    return [replace(entry, best=entry.measured == best) for entry in rivals]
