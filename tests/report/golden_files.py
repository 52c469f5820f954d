"""Whole reports as files, for a table of each shape.

``python tests/report/golden_files.py`` writes them anew: read the diff before you keep it.
"""

from __future__ import annotations

from pathlib import Path

from fabricated import make_answers, make_evidence

from robustbench_pcl.paper.tables import published
from robustbench_pcl.report.render import render
from robustbench_pcl.report.table import report_table

FOLDER = Path(__file__).parent / "golden"
NUMBERS = (3, 5, 13)
"""Recipes in rows, recipes in columns, a matrix."""
SUFFIXES = {"text": "txt", "md": "md", "latex": "tex", "html": "html", "json": "json"}
CASES = {
    f"table{number:02}.{suffix}": (number, form)
    for number in NUMBERS
    for form, suffix in SUFFIXES.items()
}
"""File names, each with the table and the format that it holds."""


def datasets_of(number: int) -> tuple[str, ...]:
    """The first two data sets of the paper's table."""
    return published(number).datasets[:2]


def rendered(number: int, form: str, answers: list | None = None) -> str:
    """A table with an answer to every cell, or with the given answers."""
    datasets = datasets_of(number)
    records = make_answers(number, datasets) if answers is None else answers
    return render(report_table(number, make_evidence(records), datasets), form)


if __name__ == "__main__":
    for name, (number, form) in CASES.items():
        (FOLDER / name).write_text(rendered(number, form), encoding="utf-8")
