"""The paper's figures of results from stored records: number -> drawing and caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustbench_pcl.data.catalogue import DATASETS, dataset_spec
from robustbench_pcl.paper.figure import FeatureFigure, PaperFigure
from robustbench_pcl.paper.figures import FIGURES, paper_figure
from robustbench_pcl.report.evidence import Evidence
from robustbench_pcl.report.figures.drawing import Drawing
from robustbench_pcl.report.figures.feature_section import feature_section
from robustbench_pcl.report.figures.figure_section import FigureSection
from robustbench_pcl.report.figures.scatter import Block, scatter
from robustbench_pcl.report.figures.sweep import Sweep, sweep
from robustbench_pcl.report.figures.sweep_section import sweep_section
from robustbench_pcl.report.formatting import listed
from robustbench_pcl.report.page.document import Figure
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.store.embeddings import Embedding


@dataclass(frozen=True)
class ReportFigure:
    """A figure ready to be written.

    Attributes:
        number: the paper's.
        title: number and what it shows.
        drawing: as SVG (``drawing.svg()``) or PNG (``drawing.png()``).
        caption: how to read it, how it was made, and what is missing.
        commands: make what is missing.
        whole_commands: make all of it.
        stored: how many of its parts are stored, panels or accuracies.
        missing: how many are not.
    """

    number: int
    title: str
    drawing: Drawing
    caption: str
    commands: tuple[str, ...]
    whole_commands: tuple[str, ...]
    stored: int
    missing: int


def report_figure(
    number: int,
    evidence: Evidence,
    embeddings: Sequence[Embedding],
    datasets: Sequence[str] = (),
    *,
    scale: Scale | None = None,
    seed: int | None = None,
) -> ReportFigure:
    """A figure of the paper, drawn as far as it is stored.

    Args:
        number: the paper's.
        evidence: all records there are.
        embeddings: all there are, oldest first.
        datasets: to show; by default all with anything stored, or the paper's if there is nothing.
        scale: of the recipes; by default for each data set the most faithful one stored.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such figure or data set, or a file is damaged.
    """
    figure = paper_figure(number)

    def section(dataset: str) -> FigureSection:
        if isinstance(figure, FeatureFigure):
            return feature_section(figure, embeddings, dataset, scale, seed)
        return sweep_section(figure, evidence, dataset, scale, seed)

    others = [name for name in DATASETS if name not in figure.datasets]
    sections = [section(name) for name in datasets or (*figure.datasets, *others)]
    if not datasets:
        sections = [section for section in sections if section.found] or [
            section for section in sections if section.dataset in figure.datasets
        ]
    return ReportFigure(
        number=number,
        title=f"Figure {number}. {figure.title}",
        drawing=_drawing(sections),
        caption=" ".join([_caption(figure, sections), *_words(sections)]),
        commands=tuple(section.command for section in sections if section.command),
        whole_commands=tuple(section.whole_command for section in sections),
        stored=sum(len(section.images) for section in sections),
        missing=sum(len(section.missing) for section in sections),
    )


def paper_figures(
    evidence: Evidence,
    embeddings: Sequence[Embedding],
    datasets: Sequence[str] = (),
    *,
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[Figure]:
    """The figures for the page: one a data set, if more than half of it is stored.

    What other figures and tables have made for themselves is not yet a figure.

    Args:
        evidence: all records there are.
        embeddings: all there are, oldest first.
        datasets: to show; by default all there are.
        scale: of the recipes; by default the most faithful one stored.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such data set, or a file is damaged.
    """
    drawn = [
        (report_figure(number, evidence, embeddings, [name], scale=scale, seed=seed), name)
        for number in FIGURES
        for name in datasets or DATASETS
    ]
    return [
        Figure(
            title=f"{figure.title}: {dataset_spec(name).title}",
            svg=figure.drawing.svg(),
            caption=figure.caption,
            command="\n".join(figure.whole_commands),
        )
        for figure, name in drawn
        if figure.stored > figure.missing
    ]


def _drawing(sections: Sequence[FigureSection]) -> Drawing:
    parts = [section.part._replace(command=section.command) for section in sections]
    blocks = [part for part in parts if isinstance(part, Block)]
    return scatter(blocks) if blocks else sweep([part for part in parts if isinstance(part, Sweep)])


def _caption(figure: PaperFigure, sections: Sequence[FigureSection]) -> str:
    budgets = [f"{dataset_spec(section.dataset).eps:g}" for section in sections]
    return figure.caption.format(eps=listed(dict.fromkeys(budgets)))


def _words(sections: Sequence[FigureSection]) -> list[str]:
    return [words for section in sections for words in section.words()]
