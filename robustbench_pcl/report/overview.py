"""How much of each table and figure is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from robustbench_pcl.data.catalogue import DATASETS, dataset_spec
from robustbench_pcl.paper.figures import FIGURES
from robustbench_pcl.paper.table import published, published_numbers
from robustbench_pcl.report.evidence import Evidence
from robustbench_pcl.report.figures.paper_figures import report_figure
from robustbench_pcl.report.tables.described import TITLES
from robustbench_pcl.report.tables.table import datasets_of, report_table
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.store.embeddings import Embedding

Line = dict[str, Any]


def overview(
    evidence: Evidence,
    embeddings: Sequence[Embedding],
    datasets: Sequence[str] = (),
    *,
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[Line]:
    """One record for each part of the paper and data set: how much is measured, and what to run.

    Args:
        evidence: all records there are.
        embeddings: all there are, oldest first.
        datasets: only these; by default the paper's and those with something measured.
        scale: of the recipes; by default the most faithful one measured.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such data set, or a file is damaged.
    """
    stored = _Stored(evidence, embeddings, datasets, scale, seed)
    tables = sorted({*TITLES, *published_numbers()})
    return [
        *(line for number in tables for line in stored.table(number)),
        *(line for number in FIGURES for line in stored.figure(number)),
    ]


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


@dataclass(frozen=True)
class _Stored:
    """What there is, and what of it is asked for."""

    evidence: Evidence
    embeddings: Sequence[Embedding]
    datasets: Sequence[str]
    scale: Scale | None
    seed: int | None

    def table(self, number: int) -> list[Line]:
        if number in TITLES:
            return [_line("table", number, TITLES[number], None)]
        paper = published(number)
        names = self.datasets or datasets_of(paper, self.evidence)
        sections = report_table(number, self.evidence, names, self.scale, self.seed).sections
        return [
            _line(
                "table",
                number,
                paper.title,
                section.dataset,
                scale=section.scale,
                measured=section.measured,
                missing=section.missing,
                measure_with=section.command,
            )
            for section in sections
            if self.datasets or section.measured or section.dataset in paper.datasets
        ]

    def figure(self, number: int) -> list[Line]:
        figure = FIGURES[number]
        drawn = {
            name: report_figure(
                number, self.evidence, self.embeddings, [name], scale=self.scale, seed=self.seed
            )
            for name in self.datasets or DATASETS
        }
        return [
            _line(
                "figure",
                number,
                figure.title,
                name,
                scale=self.scale,
                measured=found.stored,
                missing=found.missing,
                measure_with="".join(found.commands),
            )
            for name, found in drawn.items()
            if self.datasets or found.stored or name in figure.datasets
        ]


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
