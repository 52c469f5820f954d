"""Which of the recipes compared did best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robustbench_pcl.report.tables.model import Entry


def with_best(rivals: Sequence[Entry]) -> list[Entry]:
    """Mark the best of the recipes that were asked the same, unless all are equal.

    Numbers from different numbers of images are not compared. Epochs are what a recipe asks for:
    fewer are not better.
    """
    quantity = rivals[0].cell.quantity
    values = {entry.measured for entry in rivals if entry.measured is not None}
    images = {entry.n for entry in rivals if entry.measured is not None}
    if len(values) < 2 or len(images) > 1 or quantity == "epochs":
        return list(rivals)
    best = max(values) if quantity == "accuracy" else min(values)
    return [replace(entry, best=entry.measured == best) for entry in rivals]
