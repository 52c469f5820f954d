"""How much of each table and figure is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.paper.figures import FIGURES
from robustbench_pcl.paper.tables import published, published_numbers
from robustbench_pcl.report.described import TITLES
from robustbench_pcl.report.figure_sections import figure_sections
from robustbench_pcl.report.results import Evidence
from robustbench_pcl.report.table import datasets_of, report_table

Line = dict[str, Any]


def overview(
    evidence: Evidence,
    datasets: Sequence[str] = (),
    *,
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[Line]:
    """One record for each part of the paper and data set: how much is measured, and what to run.

    Args:
        evidence: all records there are.
        datasets: only these; by default the paper's and those with something measured.
        scale: of the recipes; by default the most faithful one measured.
        seed: of the recipes' training; any by default.

    Returns:
        Records with ``kind`` ("table" or "figure"), ``number``, ``title``, ``data_set`` (None for
        what is printed from the code), ``scale``, ``measured``, ``missing`` and ``measure_with``.

    Raises:
        UserError: there is no such data set, or a file is damaged.
    """
    lines: list[Line] = []
    for number in sorted({*TITLES, *published_numbers()}):
        if number in TITLES:
            lines.append(_line("table", number, TITLES[number], None))
        else:
            lines += _table_lines(number, evidence, datasets, scale, seed)
    for number in FIGURES:
        lines += _figure_lines(number, evidence, datasets, scale, seed)
    return lines


def overview_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """The records of :func:`overview` for a terminal, lines of at most 80 columns."""
    text = []
    for (kind, number, title), parts in groupby(
        lines, key=lambda line: (line["kind"], line["number"], line["title"])
    ):
        text.append(f"{kind.capitalize()} {number}. {title}")
        for line in parts:
            if line["data_set"] is None:
                text.append("  printed from the code")
                continue
            counts = f"{line['measured']} of {line['measured'] + line['missing']}"
            text.append(f"  {line['data_set']:<10}{counts:<9} {line['measure_with']}".rstrip())
    shown = "pclbench report --table 3, --figure 7 or --page"
    return "\n".join([*text, "", f"Show one with: {shown}"]) + "\n"


def _table_lines(
    number: int,
    evidence: Evidence,
    datasets: Sequence[str],
    scale: Scale | None,
    seed: int | None,
) -> Iterator[Line]:
    paper = published(number)
    asked = datasets or datasets_of(paper, evidence)
    for section in report_table(number, evidence, asked, scale, seed).sections:
        if datasets or section.measured or section.dataset in paper.datasets:
            yield _line(
                "table",
                number,
                paper.title,
                section.dataset,
                scale=section.scale,
                measured=section.measured,
                missing=section.missing,
                measure_with=section.command,
            )


def _figure_lines(
    number: int,
    evidence: Evidence,
    datasets: Sequence[str],
    scale: Scale | None,
    seed: int | None,
) -> Iterator[Line]:
    figure, asked = FIGURES[number], datasets or tuple(DATASETS)
    for section in figure_sections(number, evidence, asked, scale=scale, seed=seed):
        if datasets or section.images or section.dataset in figure.datasets:
            yield _line(
                "figure",
                number,
                figure.title,
                section.dataset,
                scale=section.scale,
                measured=len(section.images),
                missing=len(section.missing),
                measure_with=section.command if section.missing else "",
            )


def _line(kind: str, number: int, title: str, dataset: str | None, **counts: Any) -> Line:
    return {
        "kind": kind,
        "number": number,
        "title": title,
        "data_set": dataset and dataset_spec(dataset).title,
        "scale": None,
        "measured": 0,
        "missing": 0,
        "measure_with": "",
        **counts,
    }
